//! Workloads: one running pod (or machine), as everything else names it.

use crate::{Identity, Name, NetworkAddress, PolicyKey, ServiceKey};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    net::IpAddr,
    ops::{Deref, DerefMut},
    sync::Arc,
};

/// A workload's unique name across clusters, `<cluster>/<group>/<kind>/<namespace>/<name>` as Istio forms it
/// (`Kubernetes//Pod/shop/web-0`).
pub type WorkloadUid = Name;

/// How a workload accepts traffic from the mesh.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Tunnel {
    /// Plain TCP: the workload is not in the mesh.
    #[default]
    None,
    /// HBONE: HTTP/2 CONNECT over mutual TLS on port 15008.
    Hbone,
}

/// Whether a workload should be sent new connections, best first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Health {
    /// Ready.
    #[default]
    Healthy,
    /// Told to end and still serving: the last resort of a service that has no ready endpoint.
    Draining,
    /// Not ready.
    Unhealthy,
}

/// The kind of object that owns a workload; metrics and `baggage` name it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// A Deployment (also the default, as in Istio).
    #[default]
    Deployment,
    /// A CronJob.
    CronJob,
    /// A bare pod.
    Pod,
    /// A Job.
    Job,
}

impl Kind {
    /// The word that metrics, logs and `baggage` use.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Deployment => "deployment",
            Kind::CronJob => "cronjob",
            Kind::Pod => "pod",
            Kind::Job => "job",
        }
    }
}

/// Where a waypoint or a network gateway is reached.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum GatewayDestination {
    /// By address.
    Address(NetworkAddress),
    /// By the service that fronts it.
    Service(ServiceKey),
}

/// A waypoint or network gateway, and the port on which it accepts HBONE.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Gateway {
    /// Where it is.
    pub destination: GatewayDestination,
    /// Its HBONE port, 15008 unless told otherwise.
    pub hbone_port: u16,
}

/// One port of a workload behind a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PortMapping {
    /// The service's port.
    pub service_port: u16,
    /// The workload's own port.
    pub target_port: u16,
}

/// Services, and the ports under which each of them reaches a workload.
pub type ServicePorts = BTreeMap<ServiceKey, Vec<PortMapping>>;

/// From where an endpoint of a service is to be used (the `hints` of EndpointSlices).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Hint {
    /// From these zones.
    pub zones: Vec<Name>,
    /// From these nodes.
    pub nodes: Vec<Name>,
}

/// The hints for a workload, by the service behind which it stands.
pub type Hints = BTreeMap<ServiceKey, Hint>;

/// Where a workload runs, for traffic that prefers what is near.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Locality {
    /// Region, of the node's `topology.kubernetes.io/region`.
    pub region: Name,
    /// Zone, of the node's `topology.kubernetes.io/zone`.
    pub zone: Name,
    /// Subzone, of the node's `topology.istio.io/subzone`.
    pub subzone: Name,
}

/// A workload: the fields of Istio's `workload.proto` that an L4 mesh needs.
///
/// What replicas have in common is one [`Profile`] that they share, and is read as if it were the workload's own:
/// a node knows every workload of the mesh, and most differ in little but name and address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workload {
    /// Unique across clusters.
    pub uid: WorkloadUid,
    /// The pod's name.
    pub name: Name,
    /// Its addresses, IPv4 and IPv6; empty where only `hostname` is known.
    pub addresses: Vec<IpAddr>,
    /// The node it runs on.
    pub node: Name,
    /// The owner's name (`web` of `web-6d4cf56db6-x`).
    pub workload_name: Name,
    /// `service.istio.io/canonical-name`, or its fallbacks.
    pub canonical_name: Name,
    /// The rest.
    #[serde(flatten)]
    pub profile: Arc<Profile>,
}

/// What the replicas of a workload have in common.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Profile {
    /// The pod's namespace.
    pub namespace: Name,
    /// The trust domain of its identity.
    pub trust_domain: Name,
    /// The service account of its identity.
    pub service_account: Name,
    /// The network its addresses belong to.
    pub network: Name,
    /// How it accepts traffic.
    pub tunnel: Tunnel,
    /// Shares its node's network namespace: never captured.
    pub host_network: bool,
    /// Where its traffic must pass first, when it was addressed directly.
    pub waypoint: Option<Gateway>,
    /// Where it is reached from other networks.
    pub network_gateway: Option<Gateway>,
    /// The owner's kind.
    pub workload_type: Kind,
    /// `service.istio.io/canonical-revision`, or its fallbacks.
    pub canonical_revision: Name,
    /// The cluster it runs in.
    pub cluster: Name,
    /// The policies whose selectors matched this workload. Namespace and global policies apply besides these.
    pub policies: Vec<PolicyKey>,
    /// Whether it takes new connections.
    pub health: Health,
    /// The services it stands behind, and with which ports. A snapshot's workloads that say the same share it.
    pub services: Arc<ServicePorts>,
    /// From where it is to be used behind some of them. Few services have hints.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hints: Option<Arc<Hints>>,
    /// Where it runs.
    pub locality: Locality,
    /// Its connections are encrypted also where both ends are on one node, which the kernel would join otherwise.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub always_encrypt: bool,
}

impl Deref for Workload {
    type Target = Profile;

    fn deref(&self) -> &Profile {
        &self.profile
    }
}

/// A change of one workload leaves those alone that shared its profile.
impl DerefMut for Workload {
    fn deref_mut(&mut self) -> &mut Profile {
        Arc::make_mut(&mut self.profile)
    }
}

impl Workload {
    /// An otherwise empty workload: what tests and conversions start from.
    pub fn new(
        uid: impl Into<Name>,
        namespace: impl Into<Name>,
        name: impl Into<Name>,
        service_account: impl Into<Name>,
    ) -> Self {
        let empty: Name = "".into();
        let name = name.into();
        Self {
            uid: uid.into(),
            workload_name: name.clone(),
            canonical_name: name.clone(),
            name,
            addresses: Vec::new(),
            node: empty.clone(),
            profile: Arc::new(Profile {
                namespace: namespace.into(),
                trust_domain: "cluster.local".into(),
                service_account: service_account.into(),
                network: empty.clone(),
                tunnel: Tunnel::None,
                host_network: false,
                waypoint: None,
                network_gateway: None,
                workload_type: Kind::Pod,
                canonical_revision: "latest".into(),
                cluster: "Kubernetes".into(),
                policies: Vec::new(),
                health: Health::Healthy,
                services: Arc::default(),
                hints: None,
                locality: Locality { region: empty.clone(), zone: empty.clone(), subzone: empty },
                always_encrypt: false,
            }),
        }
    }

    /// The identity that its certificate carries.
    pub fn identity(&self) -> Identity {
        Identity {
            trust_domain: self.trust_domain.clone(),
            namespace: self.namespace.clone(),
            service_account: self.service_account.clone(),
        }
    }

    /// Whether it takes part in the mesh: captured on its own node, reached by HBONE from others.
    pub fn is_meshed(&self) -> bool {
        self.tunnel == Tunnel::Hbone && !self.host_network
    }

    /// Its addresses, each with its network: the keys under which a snapshot finds it.
    pub fn network_addresses(&self) -> impl Iterator<Item = NetworkAddress> + '_ {
        self.addresses.iter().map(|ip| NetworkAddress::new(self.network.clone(), *ip))
    }

    /// From where it is to be used behind `service`, where that is told.
    pub fn hint(&self, service: &ServiceKey) -> Option<&Hint> {
        self.hints.as_ref()?.get(service)
    }

    /// The workload's own port behind `service`'s `port`. Port 0 is none: nobody can be reached there.
    pub fn target_port(&self, service: &ServiceKey, port: u16) -> Option<u16> {
        let mapping = self.services.get(service)?.iter().find(|p| p.service_port == port)?;
        (mapping.target_port != 0).then_some(mapping.target_port)
    }
}
