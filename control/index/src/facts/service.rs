//! Services.

use super::{Age, Digest, Key};
use crate::{
    finding::{Note, Severity},
    selector::Labels,
};
use k8s_openapi::{
    api::core::v1::{Service, ServicePort, ServiceSpec, ServiceStatus},
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

/// An address from outside of the mesh that leads to a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct External {
    pub ip: IpAddr,
    /// A load balancer's, by the service's status; else the author of the service wrote it.
    pub from_status: bool,
}

/// At so many external addresses and ports a service is reached: nobody shall fill every node's maps with one object.
const REACHED: usize = 1024;

/// What matters of a service.
#[derive(Clone, Debug)]
pub(crate) struct ServiceFacts {
    pub key: Key,
    pub age: Age,
    pub vips: Vec<IpAddr>,
    /// Where kube-proxy, too, takes pods straight to the endpoints.
    pub externals: Vec<External>,
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
        let mut spec = service.spec.clone().unwrap_or_default();
        let external_name = spec.type_.as_deref() == Some("ExternalName");
        if external_name {
            // A name, whatever else may have been left in it: it has neither addresses nor endpoints.
            spec = ServiceSpec::default();
        }
        let listed = match spec.cluster_ips.clone().unwrap_or_default() {
            ips if ips.is_empty() => Vec::from_iter(spec.cluster_ip.clone()),
            ips => ips,
        };
        let mut vips = Vec::new();
        for (at, ip) in listed.iter().enumerate().filter(|(_, ip)| !matches!(ip.as_str(), "None" | "")) {
            vips.extend(super::address(format!("spec.clusterIPs[{at}]"), ip, &mut notes));
        }
        let mut externals = match vips.is_empty() {
            true => Vec::new(),
            false => externals(&spec, service.status.as_ref(), &mut notes),
        };
        let mut ports = Vec::new();
        for (at, port) in spec.ports.iter().flatten().enumerate() {
            if port.protocol.as_deref().is_none_or(|p| p == "TCP") {
                ports.extend(target(at, port, &mut notes));
            }
        }
        let room = REACHED / ports.len().max(1);
        if externals.len() > room {
            externals.truncate(room);
            notes.push(Note::new(
                Severity::Info,
                "spec.externalIPs",
                format!("the mesh takes pods to the service from {room} of its external addresses; from others, kube-proxy does, in plaintext"),
                "within the mesh, call the service by its name",
            ));
        }
        if super::is_fatal(&notes) {
            return Err(notes);
        }
        let facts = Self {
            age: (super::created(&service.metadata), key.clone()),
            key,
            vips,
            ports,
            externals,
            external_name,
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

/// The addresses from outside at which kube-proxy, too, takes pods straight to the endpoints. Where it does more than that,
/// they are left to it.
fn externals(spec: &ServiceSpec, status: Option<&ServiceStatus>, notes: &mut Vec<Note>) -> Vec<External> {
    let mut found: Vec<External> = Vec::new();
    let balancer = status.and_then(|s| s.load_balancer.as_ref()).and_then(|b| b.ingress.as_ref());
    let is_balanced = spec.type_.as_deref() == Some("LoadBalancer");
    for (at, ingress) in balancer.into_iter().flatten().enumerate().filter(|_| is_balanced) {
        // With `Proxy`, connections are to pass the load balancer itself.
        if ingress.ip_mode.as_deref() == Some("Proxy") {
            continue;
        }
        let Some(ip) = ingress.ip.as_deref().filter(|ip| !ip.is_empty()) else { continue };
        let ip = super::address(format!("status.loadBalancer.ingress[{at}].ip"), ip, notes);
        found.extend(ip.map(|ip| External { ip, from_status: true }));
    }
    if !found.is_empty() && spec.load_balancer_source_ranges.as_ref().is_some_and(|r| !r.is_empty()) {
        notes.push(left_to_kube_proxy("spec.loadBalancerSourceRanges", "which heeds these ranges"));
        found.clear();
    }
    for (at, ip) in spec.external_ips.iter().flatten().enumerate() {
        let ip = super::address(format!("spec.externalIPs[{at}]"), ip, notes);
        found.extend(ip.map(|ip| External { ip, from_status: false }));
    }
    let mut seen = Vec::new();
    found.retain(|e| {
        !seen.contains(&e.ip) && {
            seen.push(e.ip);
            true
        }
    });
    if !found.is_empty() && spec.internal_traffic_policy.as_deref() == Some("Local") {
        notes.push(left_to_kube_proxy(
            "spec.internalTrafficPolicy",
            "which uses endpoints of all nodes there",
        ));
        found.clear();
    }
    found
}

/// Says that a service's addresses from outside are not the mesh's.
fn left_to_kube_proxy(field: &str, why: &str) -> Note {
    Note::new(
        Severity::Info,
        field,
        format!("pods that call the service by its external addresses go by kube-proxy, {why}, in plaintext"),
        "within the mesh, call the service by its name",
    )
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
    let client_affinity = spec.session_affinity.as_deref() == Some("ClientIP");
    LoadBalancing { scopes, mode, publish_not_ready, client_affinity }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_service_is_reached_at_more_places_than_nodes_have_room_for() {
        let spec = ServiceSpec {
            cluster_ip: Some("10.1.0.1".into()),
            external_ips: Some((0..=255).map(|n| format!("192.0.2.{n}")).collect()),
            ports: Some((1..=8).map(|port| ServicePort { port, ..ServicePort::default() }).collect()),
            ..ServiceSpec::default()
        };
        let service = Service { spec: Some(spec), ..Service::default() };
        let (facts, notes) = ServiceFacts::digest(("shop".into(), "web".into()), &service).unwrap();
        assert_eq!((facts.externals.len(), facts.ports.len()), (128, 8));
        assert!(notes[0].message.contains("from 128 of its external addresses"), "{notes:?}");
    }
}
