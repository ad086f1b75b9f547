//! Services.

use super::{Age, Digest, Key};
use crate::{
    finding::{Note, Severity},
    selector::Labels,
};
use k8s_openapi::{
    api::core::v1::{Service, ServicePort, ServiceSpec},
    apimachinery::pkg::util::intstr::IntOrString,
};
use std::net::IpAddr;
use weft_model::service::{LoadBalancing, LocalityMode, Scope};

/// One TCP port of a service.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// Its name, empty where the service has only one.
    pub name: String,
    pub port: u16,
    pub target: IntOrString,
}

/// What matters of a service.
#[derive(Clone, Debug)]
pub(crate) struct ServiceFacts {
    pub key: Key,
    pub age: Age,
    pub vips: Vec<IpAddr>,
    pub ports: Vec<Target>,
    /// Empty where the service has none: its endpoints are then only what slices say.
    pub selector: Labels,
    pub load_balancing: LoadBalancing,
    /// A name for something outside: no addresses, no endpoints.
    pub external_name: bool,
}

impl ServiceFacts {
    pub(crate) fn digest(key: Key, service: &Service) -> Digest<Self> {
        let mut notes = Vec::new();
        let spec = service.spec.clone().unwrap_or_default();
        let listed = match spec.cluster_ips.clone().unwrap_or_default() {
            ips if ips.is_empty() => Vec::from_iter(spec.cluster_ip.clone()),
            ips => ips,
        };
        let mut vips = Vec::new();
        for (at, ip) in listed.iter().enumerate().filter(|(_, ip)| !matches!(ip.as_str(), "None" | "")) {
            vips.extend(super::address(format!("spec.clusterIPs[{at}]"), ip, &mut notes));
        }
        let mut ports = Vec::new();
        for (at, port) in spec.ports.iter().flatten().enumerate() {
            if port.protocol.as_deref().is_none_or(|p| p == "TCP") {
                ports.extend(target(at, port, &mut notes));
            }
        }
        if super::is_fatal(&notes) {
            return Err(notes);
        }
        let facts = Self {
            age: (super::created(&service.metadata), key.clone()),
            key,
            vips,
            ports,
            external_name: spec.type_.as_deref() == Some("ExternalName"),
            load_balancing: load_balancing(&spec, &mut notes),
            selector: spec.selector.unwrap_or_default(),
        };
        Ok((facts, notes))
    }
}

fn target(at: usize, port: &ServicePort, notes: &mut Vec<Note>) -> Option<Target> {
    let number = super::port(format!("spec.ports[{at}].port"), port.port, notes)?;
    let target = port.target_port.clone().unwrap_or(IntOrString::Int(port.port));
    if let IntOrString::Int(target) = target {
        super::port(format!("spec.ports[{at}].targetPort"), target, notes)?;
    }
    Some(Target { name: port.name.clone().unwrap_or_default(), port: number, target })
}

fn load_balancing(spec: &ServiceSpec, notes: &mut Vec<Note>) -> LoadBalancing {
    let near = vec![Scope::Network, Scope::Region, Scope::Zone, Scope::Subzone];
    let (scopes, mode) = match (spec.internal_traffic_policy.as_deref(), spec.traffic_distribution.as_deref())
    {
        (Some("Local"), _) => (vec![Scope::Node], LocalityMode::Strict),
        (_, Some("PreferClose" | "PreferSameZone")) => (near, LocalityMode::Failover),
        (_, Some("PreferSameNode")) => ([near, vec![Scope::Node]].concat(), LocalityMode::Failover),
        (_, None) => (Vec::new(), LocalityMode::Any),
        (_, Some(other)) => {
            notes.push(Note::new(
                Severity::Warning,
                "spec.trafficDistribution",
                format!("`{other}` is not known and is ignored"),
                "write PreferSameZone, PreferSameNode or PreferClose",
            ));
            (Vec::new(), LocalityMode::Any)
        }
    };
    let publish_not_ready = spec.publish_not_ready_addresses.unwrap_or_default();
    LoadBalancing { scopes, mode, publish_not_ready }
}
