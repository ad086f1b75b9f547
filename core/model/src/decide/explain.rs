//! Why would a connection go where it goes? The same decisions that the proxies make, with what led to them.

use super::{Outbound, Verdict, inbound, outbound};
use crate::{
    Identity, Reason, Snapshot, Workload,
    policy::Connection,
    snapshot::{PolicySet, ServiceEntry},
};
use std::{net::SocketAddr, sync::Arc};

/// The path that a connection takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// The kernel joins the two on their node; no proxy sees the bytes.
    Direct,
    /// An HBONE tunnel to `hop`.
    Tunnel {
        /// Where the tunnel's TCP connection goes.
        hop: SocketAddr,
        /// It ends at a waypoint, which decides the rest.
        waypoint: bool,
    },
    /// Plain TCP through the client's proxy: the destination does not speak HBONE.
    Plain,
    /// Untouched: the mesh knows nothing of the destination.
    Passthrough,
    /// Plain TCP past every proxy of the client's side: the client is not in the mesh.
    Unmeshed,
    /// The client's side refuses it.
    Refused(Reason),
}

/// How many policies hold for a workload, over all scopes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// DENY policies.
    pub deny: usize,
    /// ALLOW policies.
    pub allow: usize,
    /// Policies in dry run.
    pub dry_run: usize,
}

/// One connection that would be made, explained.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// The path.
    pub way: Way,
    /// The service that was addressed.
    pub service: Option<Arc<ServiceEntry>>,
    /// The workload that was picked (the waypoint, when one is passed).
    pub destination: Option<Arc<Workload>>,
    /// Where the connection arrives: the picked workload's address and port.
    pub at: SocketAddr,
    /// Who may answer.
    pub expect: Arc<[Identity]>,
    /// The client's identity as the destination sees it; `None` where it sees plaintext.
    pub identity: Option<Identity>,
    /// What the destination's side says; `None` where nobody in the mesh is asked, or a waypoint is.
    pub verdict: Option<Verdict>,
    /// The policies that hold for the destination.
    pub held: Held,
}

impl Explanation {
    /// Why the connection would not come about; `None` when, for all that is known, it would.
    pub fn refused(&self) -> Option<Reason> {
        match self.way {
            Way::Refused(reason) => Some(reason),
            _ => self.verdict.as_ref().and_then(|v| v.refused),
        }
    }
}

/// Explains the connection of `source` to `to`. `direct` tells whether the kernel joins two workloads without a proxy;
/// `rand` chooses among endpoints, as in [`outbound`].
pub fn explain(
    snapshot: &Snapshot,
    source: &Workload,
    to: SocketAddr,
    rand: u64,
    direct: impl FnOnce(&Workload, SocketAddr) -> bool,
) -> Explanation {
    let mut found = outward(snapshot, source, to, rand);
    match (&found.way, &found.destination) {
        (Way::Refused(_), _) => return found,
        _ if !source.is_meshed() => {
            found.way = Way::Unmeshed;
            found.expect = Arc::new([]);
        }
        // The draw of a client that stays with its endpoint is the proxy's.
        _ if found.service.as_ref().is_some_and(|s| s.service.load_balancing.client_affinity) => {}
        (Way::Tunnel { waypoint: false, .. }, Some(workload)) if direct(workload, found.at) => {
            found.way = Way::Direct;
        }
        _ => {}
    }
    found.identity = matches!(found.way, Way::Direct | Way::Tunnel { .. }).then(|| source.identity());
    let waypoint = matches!(found.way, Way::Tunnel { waypoint: true, .. });
    if let Some(workload) = found.destination.as_deref().filter(|w| w.is_meshed() && !waypoint) {
        found.held = held(snapshot, workload);
        found.verdict = asked(snapshot, source, to, workload, &found);
    }
    found
}

/// What the client's side decides.
fn outward(snapshot: &Snapshot, source: &Workload, to: SocketAddr, rand: u64) -> Explanation {
    let mut found = Explanation {
        way: Way::Passthrough,
        service: None,
        destination: None,
        at: to,
        expect: Arc::new([]),
        identity: None,
        verdict: None,
        held: Held::default(),
    };
    match outbound(snapshot, source, to, rand) {
        Outbound::Tunnel(t) => {
            found.way = Way::Tunnel { hop: t.hop, waypoint: t.via_waypoint };
            found.service = t.service;
            found.destination = Some(t.workload);
            found.at = t.authority;
            found.expect = t.expect;
        }
        Outbound::Plain { to, workload, service } => {
            found.way = if workload.is_some() { Way::Plain } else { Way::Passthrough };
            found.service = service;
            found.destination = workload;
            found.at = to;
        }
        Outbound::Refuse { reason, service } => {
            found.way = Way::Refused(reason);
            found.service = service;
        }
    }
    found
}

/// What the destination's side decides.
fn asked(
    snapshot: &Snapshot,
    source: &Workload,
    to: SocketAddr,
    workload: &Workload,
    found: &Explanation,
) -> Option<Verdict> {
    let same_family = |ip: &&std::net::IpAddr| ip.is_ipv4() == found.at.is_ipv4();
    let source_ip = source.addresses.iter().find(same_family).or(source.addresses.first());
    let connection = Connection {
        identity: found.identity.as_ref(),
        // A workload without any address cannot connect at all; what it would ask for stands in.
        source_ip: source_ip.copied().unwrap_or(to.ip()),
        destination_ip: found.at.ip(),
        destination_port: found.at.port(),
    };
    Some(inbound(snapshot, workload, &connection))
}

fn held(snapshot: &Snapshot, workload: &Workload) -> Held {
    let sets = snapshot.policy_sets(workload);
    let count = |of: fn(&PolicySet) -> usize| sets.iter().flatten().map(|s| of(s)).sum();
    Held {
        deny: count(|s| s.deny.policies().len()),
        allow: count(|s| s.allow.policies().len()),
        dry_run: count(|s| s.dry_run.policies().len()),
    }
}

#[cfg(test)]
mod tests;
