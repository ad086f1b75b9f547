//! What NetworkPolicies say of a connection: a pure function over the objects.
//!
//! The mesh does not enforce them, the cluster's CNI does, and it sees what is on the wire: a tunnel arrives at port
//! 15008 of the destination, whatever port the application has.

mod selector;

use k8s_openapi::{
    api::{
        core::v1::Pod,
        networking::v1::{NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort},
    },
    apimachinery::pkg::util::intstr::IntOrString,
};
use serde::Serialize;
use std::{collections::BTreeMap, net::IpAddr};

/// The port at which tunnels arrive.
pub const TUNNEL: u16 = 15008;

/// One end of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Side<'a> {
    /// The address on the wire.
    pub address: IpAddr,
    /// The pod there, if it is one.
    pub pod: Option<&'a Pod>,
    /// The labels of its namespace.
    pub namespace_labels: &'a BTreeMap<String, String>,
}

/// A connection, as the CNI sees it.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    /// The client.
    pub from: Side<'a>,
    /// The server.
    pub to: Side<'a>,
    /// The port on the wire.
    pub port: u16,
}

/// One direction that policies rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// `egress` of the client, or `ingress` of the server.
    pub direction: &'static str,
    /// The pod that they hold for.
    pub pod: String,
    /// The port on the wire.
    pub port: u16,
    /// Whether one of them allows it.
    pub allowed: bool,
    /// Those that allow it, or where none does, all that hold for the pod, `namespace/name`.
    pub policies: Vec<String>,
}

impl Verdict {
    /// The verdict in words, with the mend.
    pub fn words(&self) -> String {
        let Self { direction, pod, port, policies, .. } = self;
        let policies = policies.join(", ");
        if self.allowed {
            return format!("NetworkPolicy: {direction} of {pod} on TCP {port} is allowed by {policies}");
        }
        let mend = match *port {
            TUNNEL => "add a rule for TCP 15008, where the mesh's tunnels arrive",
            _ => "add a rule that allows it",
        };
        format!(
            "NetworkPolicy: {direction} of {pod} on TCP {port} is BLOCKED: no rule of {policies} allows it; {mend}"
        )
    }
}

/// What `policies` say of the connection, in both directions; nothing where none holds. They do not hold for pods on the
/// host's network, for a pod's connections to itself, nor for what comes from the server's own node.
pub fn judge(policies: &[NetworkPolicy], attempt: &Attempt<'_>) -> Vec<Verdict> {
    if attempt.from.pod.zip(attempt.to.pod).is_some_and(|(from, to)| from.metadata.uid == to.metadata.uid) {
        return Vec::new();
    }
    let to_own_node = attempt.from.pod.is_some_and(is_on_host) && node(attempt.from) == node(attempt.to);
    let egress = one(policies, attempt, Direction::Egress);
    let ingress = if to_own_node { None } else { one(policies, attempt, Direction::Ingress) };
    egress.into_iter().chain(ingress).collect()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Egress,
    Ingress,
}

fn node<'a>(side: Side<'a>) -> Option<&'a str> {
    side.pod?.spec.as_ref()?.node_name.as_deref()
}

fn is_on_host(pod: &Pod) -> bool {
    pod.spec.as_ref().and_then(|s| s.host_network).unwrap_or(false)
}

fn one(policies: &[NetworkPolicy], attempt: &Attempt<'_>, direction: Direction) -> Option<Verdict> {
    let (held, peer) = match direction {
        Direction::Egress => (attempt.from, attempt.to),
        Direction::Ingress => (attempt.to, attempt.from),
    };
    let pod = held.pod.filter(|pod| !is_on_host(pod))?;
    let holding: Vec<_> = policies.iter().filter(|p| holds(p, pod, direction)).collect();
    if holding.is_empty() {
        return None;
    }
    let allows = |policy: &&NetworkPolicy| allows(policy, direction, peer, attempt);
    let allowing: Vec<_> = holding.iter().copied().filter(allows).collect();
    let allowed = !allowing.is_empty();
    let named = if allowed { allowing } else { holding };
    Some(Verdict {
        direction: match direction {
            Direction::Egress => "egress",
            Direction::Ingress => "ingress",
        },
        pod: full_name(pod.metadata.namespace.as_deref(), pod.metadata.name.as_deref()),
        port: attempt.port,
        allowed,
        policies: named
            .iter()
            .map(|p| full_name(p.metadata.namespace.as_deref(), p.metadata.name.as_deref()))
            .collect(),
    })
}

fn full_name(namespace: Option<&str>, name: Option<&str>) -> String {
    format!("{}/{}", namespace.unwrap_or_default(), name.unwrap_or_default())
}

/// Whether the policy selects the pod and is about this direction.
fn holds(policy: &NetworkPolicy, pod: &Pod, direction: Direction) -> bool {
    let Some(spec) = &policy.spec else { return false };
    let about = match &spec.policy_types {
        Some(types) => types.iter().any(|t| *t == format!("{direction:?}")),
        // Where nothing is said, egress is meant only by rules for it.
        None => direction == Direction::Ingress || spec.egress.is_some(),
    };
    let selects = spec.pod_selector.as_ref().is_none_or(|s| selector::matches(s, labels(pod)));
    about && policy.metadata.namespace == pod.metadata.namespace && selects
}

fn labels(pod: &Pod) -> &BTreeMap<String, String> {
    static NONE: BTreeMap<String, String> = BTreeMap::new();
    pod.metadata.labels.as_ref().unwrap_or(&NONE)
}

fn allows(policy: &NetworkPolicy, direction: Direction, peer: Side<'_>, attempt: &Attempt<'_>) -> bool {
    let Some(spec) = &policy.spec else { return false };
    let own = policy.metadata.namespace.as_deref();
    let rule = |peers: &Option<Vec<NetworkPolicyPeer>>, ports: &Option<Vec<NetworkPolicyPort>>| {
        let peers = peers.as_deref().unwrap_or_default();
        let ports = ports.as_deref().unwrap_or_default();
        (peers.is_empty() || peers.iter().any(|p| is_peer(p, own, peer)))
            && (ports.is_empty() || ports.iter().any(|p| is_port(p, attempt)))
    };
    match direction {
        Direction::Ingress => spec.ingress.iter().flatten().any(|r| rule(&r.from, &r.ports)),
        Direction::Egress => spec.egress.iter().flatten().any(|r| rule(&r.to, &r.ports)),
    }
}

fn is_peer(peer: &NetworkPolicyPeer, own: Option<&str>, side: Side<'_>) -> bool {
    if let Some(block) = &peer.ip_block {
        let within = |cidr: &str| selector::within(cidr, side.address);
        return within(&block.cidr) && !block.except.iter().flatten().any(|except| within(except));
    }
    // Selectors mean pods by their own addresses; on the host's network they are the node's.
    let Some(pod) = side.pod.filter(|pod| !is_on_host(pod)) else { return false };
    let namespace = match &peer.namespace_selector {
        Some(selector) => selector::matches(selector, side.namespace_labels),
        None => pod.metadata.namespace.as_deref() == own,
    };
    namespace && peer.pod_selector.as_ref().is_none_or(|s| selector::matches(s, labels(pod)))
}

fn is_port(wanted: &NetworkPolicyPort, attempt: &Attempt<'_>) -> bool {
    if wanted.protocol.as_deref().unwrap_or("TCP") != "TCP" {
        return false;
    }
    let port = i32::from(attempt.port);
    match &wanted.port {
        None => true,
        Some(IntOrString::Int(first)) => (*first..=wanted.end_port.unwrap_or(*first)).contains(&port),
        // Names are those of the server's containers.
        Some(IntOrString::String(name)) => {
            let containers = attempt.to.pod.and_then(|p| p.spec.as_ref()).map(|s| &s.containers);
            let ports = containers.into_iter().flatten().flat_map(|c| c.ports.iter().flatten());
            ports.into_iter().any(|p| p.name.as_ref() == Some(name) && p.container_port == port)
        }
    }
}

#[cfg(test)]
mod tests;
