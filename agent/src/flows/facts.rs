//! What is known of a connection that only the kernel saw.

use crate::{
    inbound,
    kernel::{Flow, Verdict},
};
use rustc_hash::FxHashMap;
use std::{net::SocketAddr, sync::Arc};
use weft_io::telemetry::{Direction, Facts, Path};
use weft_model::{NetworkAddress, PolicyKey, Snapshot, Workload, WorkloadUid, decide, policy::Connection};

/// The workloads at both ends, where they are known.
pub struct Seen {
    /// The client's.
    pub source: Option<Arc<Workload>>,
    /// The server's, when it was reached (or refused) on this node.
    pub destination: Option<Arc<Workload>>,
}

impl Seen {
    /// Who is at the ends of `flow`, by the `pods` of this node.
    pub fn of(flow: &Flow, snapshot: &Snapshot, pods: &FxHashMap<u64, WorkloadUid>) -> Self {
        let workload = |cookie: u64| snapshot.workload(pods.get(&cookie)?).cloned();
        Self { source: workload(flow.source), destination: flow.destination.and_then(workload) }
    }
}

/// The facts of `flow` from each side that is told: both, or only the client's where the server is not on this node.
pub fn told(snapshot: &Snapshot, flow: &Flow, seen: Seen) -> Vec<Facts> {
    if flow.verdict == Verdict::Plain {
        return from_outside(snapshot, flow, seen).into_iter().collect();
    }
    let Some(source) = &seen.source else { return Vec::new() };
    let local = matches!(flow.verdict, Verdict::Direct | Verdict::Deny);
    // A pod that talks to itself over the loopback is nobody's business.
    if !local && flow.original.ip().is_loopback() {
        return Vec::new();
    }
    let at = flow.backend.unwrap_or(flow.original);
    let mut facts = Facts::new(Direction::Outbound, client(flow, source, at), at);
    let original = NetworkAddress::new(source.network.clone(), flow.original.ip());
    facts.service = snapshot.service_reached(&original, flow.original.port()).cloned();
    if local {
        facts.path = Path::Direct;
        facts.source_identity = Some(source.identity());
        facts.destination_identity = seen.destination.as_ref().map(|w| w.identity());
        let allowed = flow.verdict == Verdict::Direct;
        facts.policy = seen.destination.as_ref().and_then(|w| decided(snapshot, source, w, &facts, allowed));
    }
    facts.source = seen.source;
    facts.destination = seen.destination;
    match local {
        true => vec![facts.clone(), Facts { direction: Direction::Inbound, ..facts }],
        false => vec![facts],
    }
}

/// The facts of a connection that came without a tunnel, as of one that the agent carries.
fn from_outside(snapshot: &Snapshot, flow: &Flow, seen: Seen) -> Option<Facts> {
    let (client, destination) = (flow.client?, seen.destination?);
    let mut facts = inbound::facts(snapshot, &destination, client, flow.original);
    let verdict = inbound::authorize(snapshot, &destination, None, client.ip(), flow.original);
    // Policies that have changed since may refuse it now; those that let it in said nothing.
    facts.policy = if verdict.is_allowed() { verdict.policy } else { None };
    Some(facts)
}

/// The client's address. A connection that was refused before it had a port has that of its pod.
fn client(flow: &Flow, source: &Workload, at: SocketAddr) -> SocketAddr {
    let own = || source.addresses.iter().find(|ip| ip.is_ipv4() == at.is_ipv4());
    flow.client.unwrap_or_else(|| SocketAddr::new(own().copied().unwrap_or(at.ip()), 0))
}

/// The policy that allowed or refused it: the kernel knows only the answer. None where the policies have changed since,
/// and would now answer otherwise.
fn decided(
    snapshot: &Snapshot,
    source: &Workload,
    to: &Workload,
    facts: &Facts,
    allowed: bool,
) -> Option<PolicyKey> {
    let identity = source.identity();
    let connection = Connection {
        identity: Some(&identity),
        source_ip: facts.source_addr.ip(),
        destination_ip: facts.destination_addr.ip(),
        destination_port: facts.destination_addr.port(),
    };
    let verdict = decide::inbound(snapshot, to, &connection);
    verdict.policy.filter(|_| verdict.refused.is_none() == allowed)
}
