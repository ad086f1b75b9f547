//! Who may reach whom on the node, decided beforehand: the kernel only looks the answer up.

use super::local::Local;
use rustc_hash::FxHashMap;
use std::collections::BTreeSet;
use weft_ebpf_abi::{PairKey, pair};
use weft_model::{
    Identity, Policy, Snapshot,
    decide::inbound,
    policy::{Connection, Match},
};

/// Adds the answers for connections to `to` from every pod of `locals`. True when no policy holds for `to`, so that no
/// answers are needed.
///
/// An answer is exact or it is not given: where the verdict depends on which of a pod's addresses is used, there is none,
/// and the agent decides.
pub(super) fn of(
    snapshot: &Snapshot,
    to: &Local<'_>,
    locals: &[Local<'_>],
    answers: &mut FxHashMap<PairKey, u32>,
) -> bool {
    let policies = policies(snapshot, to);
    if policies.is_empty() {
        return true;
    }
    let ports = ports(&policies);
    let other = other(&ports);
    for from in locals.iter().filter(|l| l.pod.cookie != to.pod.cookie) {
        let identity = from.workload.identity();
        let mut answer = |port: u32, verdict: Option<u32>| {
            let key = PairKey { source: from.pod.cookie, destination: to.pod.cookie, port, pad: 0 };
            verdict.map(|v| answers.insert(key, v))
        };
        let usual = verdict(snapshot, to, from, &identity, other);
        for port in &ports {
            let special = verdict(snapshot, to, from, &identity, *port);
            if special != usual {
                // 0 is no answer of the kernel's table: the agent decides on this port.
                answer(u32::from(*port), Some(special.unwrap_or(0)));
            }
        }
        answer(0, usual);
    }
    false
}

/// The policies that are enforced for a workload. What is only a dry run changes no verdict.
pub(super) fn policies<'a>(snapshot: &'a Snapshot, to: &Local<'_>) -> Vec<&'a Policy> {
    let sets = snapshot.policy_sets(to.workload).into_iter().flatten();
    sets.flat_map(|s| s.deny.policies().iter().chain(s.allow.policies())).map(|p| &**p).collect()
}

/// Every condition of the policies.
pub(super) fn matches<'a>(policies: &'a [&Policy]) -> impl Iterator<Item = &'a Match> {
    policies.iter().flat_map(|p| &p.rules).flat_map(|r| &r.clauses).flat_map(|c| &c.matches)
}

/// Every port that a policy mentions: on all others its verdict is the same.
pub(super) fn ports(policies: &[&Policy]) -> BTreeSet<u16> {
    matches(policies)
        .flat_map(|m| m.destination_ports.iter().chain(&m.not_destination_ports))
        .copied()
        .collect()
}

/// A port that none of them is.
pub(super) fn other(ports: &BTreeSet<u16>) -> u16 {
    (1..=u16::MAX).find(|p| !ports.contains(p)).unwrap_or(u16::MAX)
}

/// The verdict on a port, where it is the same for all addresses that the two could use.
fn verdict(
    snapshot: &Snapshot,
    to: &Local<'_>,
    from: &Local<'_>,
    identity: &Identity,
    port: u16,
) -> Option<u32> {
    let mut agreed = None;
    for source_ip in &from.workload.addresses {
        for destination_ip in to.workload.addresses.iter().filter(|d| d.is_ipv4() == source_ip.is_ipv4()) {
            let connection = Connection {
                identity: Some(identity),
                source_ip: *source_ip,
                destination_ip: *destination_ip,
                destination_port: port,
            };
            let allowed = inbound(snapshot, to.workload, &connection).is_allowed();
            let one = if allowed { pair::ALLOW } else { pair::DENY };
            if agreed.is_some_and(|a| a != one) {
                return None;
            }
            agreed = Some(one);
        }
    }
    agreed
}
