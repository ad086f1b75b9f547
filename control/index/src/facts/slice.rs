//! EndpointSlices.

use super::{Digest, Incarnation, Key};
use crate::finding::{Note, Severity};
use k8s_openapi::api::discovery::v1::{EndpointConditions, EndpointHints, EndpointSlice};
use std::net::IpAddr;
use weft_model::workload::{Health, Hint};

/// One endpoint.
#[derive(Clone, Debug)]
pub(crate) struct EndpointFacts {
    pub ip: IpAddr,
    /// The pod behind it, where the slice names one.
    pub pod: Option<Key>,
    /// Which pod of that name.
    pub incarnation: Incarnation,
    pub node: String,
    /// Whether it takes new connections.
    pub health: Health,
    /// From where it is to be used, where the slice says so.
    pub hint: Option<Box<Hint>>,
}

/// What matters of a slice.
#[derive(Clone, Debug)]
pub(crate) struct SliceFacts {
    pub key: Key,
    /// The service in the slice's namespace that it belongs to.
    pub service: String,
    pub endpoints: Vec<EndpointFacts>,
    /// Name and number of its TCP ports.
    pub ports: Vec<(String, u16)>,
}

const SERVICE_LABEL: &str = "kubernetes.io/service-name";

impl SliceFacts {
    pub(crate) fn digest(key: Key, slice: &EndpointSlice) -> Digest<Self> {
        let mut notes = Vec::new();
        let labels = slice.metadata.labels.as_ref();
        let service = labels.and_then(|l| l.get(SERVICE_LABEL)).cloned().unwrap_or_default();
        if service.is_empty() {
            notes.push(Note::new(
                Severity::Warning,
                format!("metadata.labels[{SERVICE_LABEL}]"),
                "the slice belongs to no service, so nothing uses its endpoints",
                "name the service in this label",
            ));
        }
        // Slices of type FQDN hold names; Kubernetes itself makes nothing of them.
        let addressed = slice.address_type != "FQDN";
        let mut endpoints = Vec::new();
        for (at, endpoint) in slice.endpoints.iter().enumerate().filter(|_| addressed) {
            let target = endpoint.target_ref.as_ref().filter(|t| t.kind.as_deref() == Some("Pod"));
            let pod = target
                .and_then(|t| Some((t.namespace.clone().unwrap_or_else(|| key.0.clone()), t.name.clone()?)));
            let incarnation = super::incarnation(target.and_then(|t| t.uid.as_deref()));
            let health = endpoint.conditions.as_ref().map_or(Health::Healthy, health);
            let hint = endpoint.hints.as_ref().and_then(hint);
            for (n, address) in endpoint.addresses.iter().enumerate() {
                let field = format!("endpoints[{at}].addresses[{n}]");
                let Some(ip) = super::address(field, address, &mut notes) else { continue };
                let node = endpoint.node_name.clone().unwrap_or_default();
                endpoints.push(EndpointFacts {
                    ip,
                    pod: pod.clone(),
                    incarnation,
                    node,
                    health,
                    hint: hint.clone(),
                });
            }
        }
        let mut ports = Vec::new();
        for (at, port) in slice.ports.iter().flatten().enumerate() {
            let tcp = port.protocol.as_deref().is_none_or(|p| p == "TCP");
            let Some(number) = port.port.filter(|_| tcp) else { continue };
            let number = super::port(format!("ports[{at}].port"), number, &mut notes);
            ports.extend(number.map(|n| (port.name.clone().unwrap_or_default(), n)));
        }
        if super::is_fatal(&notes) {
            return Err(notes);
        }
        Ok((Self { key, service, endpoints, ports }, notes))
    }
}

/// Missing conditions are to be read as ready, and serving as ready is. One that is told to end comes last, however ready.
fn health(conditions: &EndpointConditions) -> Health {
    let ready = conditions.ready.unwrap_or(true);
    match (conditions.terminating.unwrap_or_default(), conditions.serving.unwrap_or(ready)) {
        (false, _) if ready => Health::Healthy,
        (true, true) => Health::Draining,
        _ => Health::Unhealthy,
    }
}

fn hint(hints: &EndpointHints) -> Option<Box<Hint>> {
    /// The API takes no more.
    const MOST: usize = 8;
    let zones = hints.for_zones.iter().flatten().take(MOST).map(|z| z.name.as_str().into()).collect();
    let nodes = hints.for_nodes.iter().flatten().take(MOST).map(|n| n.name.as_str().into()).collect();
    let hint = Hint { zones, nodes };
    (hint != Hint::default()).then(|| Box::new(hint))
}
