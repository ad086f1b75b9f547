//! Services: a stable name and address in front of workloads.

use crate::{Name, NetworkAddress, workload::Gateway};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A service's key: `<namespace>/<hostname>` as Istio's discovery names it (`shop/web.shop.svc.cluster.local`).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceKey {
    /// The namespace.
    pub namespace: Name,
    /// The fully qualified host name.
    pub hostname: Name,
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.hostname)
    }
}

/// Why a string is not a service key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a service key of the form <namespace>/<hostname>")]
pub struct NotAServiceKey(pub String);

impl std::str::FromStr for ServiceKey {
    type Err = NotAServiceKey;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        match s.split_once('/') {
            Some((ns, host)) if !host.is_empty() && !host.contains('/') => {
                Ok(Self { namespace: ns.into(), hostname: host.into() })
            }
            _ => Err(NotAServiceKey(s.chars().take(256).collect())),
        }
    }
}

impl Serialize for ServiceKey {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ServiceKey {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let s = std::borrow::Cow::<'de, str>::deserialize(d)?;
        s.parse().map_err(serde::de::Error::custom)
    }
}

/// One port of a service. The workload's own port stands in the workload's `PortMapping`s, since pods of one service
/// may differ in it; `target_port` is what holds where a workload does not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ServicePort {
    /// The service's port.
    pub service_port: u16,
    /// The workloads' port; 0 where each workload has its own.
    pub target_port: u16,
}

/// How strictly a service's traffic keeps to endpoints that are near (Istio's `LoadBalancing.Mode`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum LocalityMode {
    /// All endpoints are alike.
    #[default]
    Any,
    /// Only endpoints that match every scope (`internalTrafficPolicy: Local`).
    Strict,
    /// Endpoints that match the most scopes, others when there are none (`trafficDistribution`).
    Failover,
}

/// What endpoints are compared by, nearest last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Scope {
    /// The same region.
    Region,
    /// The same zone.
    Zone,
    /// The same subzone.
    Subzone,
    /// The same node.
    Node,
    /// The same cluster.
    Cluster,
    /// The same network.
    Network,
}

/// How a service's connections are spread.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LoadBalancing {
    /// What counts as near, in order of preference.
    pub scopes: Vec<Scope>,
    /// How strictly.
    pub mode: LocalityMode,
    /// Also send to endpoints that are not ready (`publishNotReadyAddresses`).
    pub publish_not_ready: bool,
    /// A client stays with its endpoint (`sessionAffinity: ClientIP`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub client_affinity: bool,
}

/// A service: the fields of Istio's `workload.proto` `Service` that an L4 mesh needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Namespace and host name.
    pub key: ServiceKey,
    /// The short name.
    pub name: Name,
    /// The virtual addresses; empty for a headless service.
    pub addresses: Vec<NetworkAddress>,
    /// Addresses from outside of the mesh that lead to it on its own ports (a load balancer's). What they mean on other
    /// ports is not the mesh's to say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub external_addresses: Vec<NetworkAddress>,
    /// The ports.
    pub ports: Vec<ServicePort>,
    /// Identities that may serve it besides the endpoints' own (SPIFFE URIs).
    pub subject_alt_names: Vec<Name>,
    /// Where its traffic must pass first.
    pub waypoint: Option<Gateway>,
    /// How its connections are spread.
    pub load_balancing: LoadBalancing,
}

impl Service {
    /// An otherwise empty service: what tests and conversions start from.
    pub fn new(namespace: impl Into<Name>, name: impl Into<Name>, hostname: impl Into<Name>) -> Self {
        Self {
            key: ServiceKey { namespace: namespace.into(), hostname: hostname.into() },
            name: name.into(),
            addresses: Vec::new(),
            external_addresses: Vec::new(),
            ports: Vec::new(),
            subject_alt_names: Vec::new(),
            waypoint: None,
            load_balancing: LoadBalancing::default(),
        }
    }

    /// The port entry for `port`, where the service has it.
    pub fn port(&self, port: u16) -> Option<&ServicePort> {
        self.ports.iter().find(|p| p.service_port == port)
    }
}
