//! Facts to workloads and services of the model.

use crate::{
    IndexConfig,
    facts::{EndpointFacts, Key, PodFacts, ServiceFacts, SliceFacts, Target},
    selector::Labels,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use std::net::IpAddr;
use weft_model::{
    Name, NetworkAddress, Service, ServiceKey, Workload,
    service::ServicePort,
    workload::{Health, PortMapping, Tunnel},
};

/// Istio's label for the network that a pod's addresses belong to.
const NETWORK: &str = "topology.istio.io/network";

impl IndexConfig {
    /// The key of a service in the model.
    pub(crate) fn service_key(&self, (namespace, name): &Key) -> ServiceKey {
        ServiceKey {
            namespace: namespace.as_str().into(),
            hostname: format!("{name}.{namespace}.svc.{}", self.domain).into(),
        }
    }

    /// The network that a pod's addresses belong to.
    pub(crate) fn network_of(&self, labels: &Labels) -> Name {
        labels.get(NETWORK).unwrap_or(&self.network).as_str().into()
    }

    /// A pod's workload, still without services, policies and locality.
    pub(crate) fn workload(&self, pod: &PodFacts, meshed: bool) -> Workload {
        let (namespace, name) = &pod.key;
        let label = |keys: &[&str]| keys.iter().find_map(|k| pod.labels.get(*k).filter(|v| !v.is_empty()));
        let canonical = label(&["service.istio.io/canonical-name", "app.kubernetes.io/name", "app"]);
        let revision =
            label(&["service.istio.io/canonical-revision", "app.kubernetes.io/version", "version"]);
        let uid = self.pod_uid(&pod.key);
        let mut w = Workload::new(uid, namespace.as_str(), name.as_str(), pod.service_account.as_str());
        w.addresses.clone_from(&pod.ips);
        w.node = pod.node.as_str().into();
        w.workload_name = pod.owner.0.as_str().into();
        w.canonical_name = canonical.unwrap_or(&pod.owner.0).as_str().into();
        w.trust_domain = self.trust_domain.as_str().into();
        w.network = self.network_of(&pod.labels);
        w.tunnel = if meshed { Tunnel::Hbone } else { Tunnel::None };
        w.host_network = pod.host_network;
        w.workload_type = pod.owner.1;
        w.canonical_revision = revision.map_or("latest", String::as_str).into();
        w.cluster = self.cluster.as_str().into();
        w.health = if pod.ready { Health::Healthy } else { Health::Unhealthy };
        w
    }

    /// The uid of a pod's workload.
    pub(crate) fn pod_uid(&self, (namespace, name): &Key) -> Name {
        format!("{}//Pod/{namespace}/{name}", self.cluster).into()
    }

    /// The uid of an endpoint that is no pod.
    pub(crate) fn bare_uid(&self, namespace: &str, ip: &IpAddr) -> Name {
        format!("{}/discovery.k8s.io/EndpointSlice/{namespace}/{ip}", self.cluster).into()
    }

    /// An endpoint that is no pod, still without services.
    pub(crate) fn bare(&self, namespace: &str, ip: &IpAddr, endpoint: &EndpointFacts) -> Workload {
        let mut w = Workload::new(self.bare_uid(namespace, ip), namespace, ip.to_string(), "default");
        w.addresses = vec![*ip];
        w.node = endpoint.node.as_str().into();
        w.trust_domain = self.trust_domain.as_str().into();
        w.network = self.network.as_str().into();
        w.cluster = self.cluster.as_str().into();
        w
    }

    /// A service of the model, with the addresses that are its own.
    pub(crate) fn service(&self, facts: &ServiceFacts, addresses: Vec<NetworkAddress>) -> Service {
        let port = |t: &Target| ServicePort {
            service_port: t.port,
            target_port: match &t.target {
                IntOrString::Int(port) => u16::try_from(*port).unwrap_or_default(),
                // Each pod has its own.
                IntOrString::String(_) => 0,
            },
        };
        let (namespace, name) = &facts.key;
        Service {
            addresses,
            ports: facts.ports.iter().map(port).collect(),
            load_balancing: facts.load_balancing.clone(),
            ..Service::new(namespace.as_str(), name.as_str(), self.service_key(&facts.key).hostname)
        }
    }
}

/// The ports of a service that `slice` carries, by name as Kubernetes joins them.
pub(crate) fn ports_of_slice(service: &ServiceFacts, slice: &SliceFacts) -> Vec<PortMapping> {
    let target = |t: &Target| slice.ports.iter().find(|(name, _)| *name == t.name).map(|(_, p)| *p);
    mappings(service, target)
}

/// The ports of a service on a pod that its selector picks.
pub(crate) fn ports_of_pod(service: &ServiceFacts, pod: &PodFacts) -> Vec<PortMapping> {
    mappings(service, |t| pod.resolve(&t.target))
}

fn mappings(service: &ServiceFacts, target: impl Fn(&Target) -> Option<u16>) -> Vec<PortMapping> {
    let mapping = |t: &Target| target(t).map(|target_port| PortMapping { service_port: t.port, target_port });
    service.ports.iter().filter_map(mapping).collect()
}
