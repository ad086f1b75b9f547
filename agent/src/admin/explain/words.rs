//! A decision, told step by step.

use crate::admin::convert::{certificate::state, connection, policy::action};
use std::net::SocketAddr;
use weft_io::tls::CertStatus;
use weft_model::{
    Reason, Snapshot, Workload,
    decide::{Explanation, Verdict, Way},
};

/// The path in one word, that of metrics and logs where there is one.
pub fn path(way: &Way) -> &'static str {
    match way {
        Way::Direct => "direct",
        Way::Tunnel { .. } => "tunnel",
        Way::Plain | Way::Unmeshed => "plain",
        Way::Passthrough => "passthrough",
        Way::Refused(_) => "refused",
    }
}

/// The outcome in one word.
pub fn verdict(e: &Explanation) -> &'static str {
    match (&e.way, &e.verdict) {
        (Way::Refused(reason), _) => connection::verdict(Some(*reason)),
        (_, Some(v)) => connection::verdict(v.refused),
        (_, None) => "unknown",
    }
}

/// The state of the certificate that `source` would show.
pub fn certificate(all: &[CertStatus], source: &Workload) -> String {
    if !source.is_meshed() {
        return "none: the pod is not in the mesh".to_owned();
    }
    let identity = source.identity();
    match all.iter().find(|c| c.identity == identity) {
        None => "not held here: the pod runs on another node, or has not been enrolled".to_owned(),
        Some(c) => {
            let until = c.not_after.map(crate::admin::convert::time);
            let until = until.map(|t| format!(", until {t}")).unwrap_or_default();
            let error = c.last_error.as_ref().map(|e| format!(" ({e})")).unwrap_or_default();
            format!("{}{until}{error}", state(c.state))
        }
    }
}

/// The decision in the order in which it is made.
pub fn steps(
    snapshot: &Snapshot,
    source: &Workload,
    to: &str,
    address: SocketAddr,
    e: &Explanation,
    certificate: &str,
) -> Vec<String> {
    let mut steps = vec![target(to, address, e)];
    if matches!(e.way, Way::Refused(_)) {
        steps.extend(refusal(e));
        return steps;
    }
    if let (Some(_), Some(w)) = (&e.service, &e.destination) {
        steps.push(format!("this time it goes to {}/{} at {}", w.namespace, w.name, e.at));
    }
    steps.push(way(source, e));
    if let Some(identity) = &e.identity {
        steps.push(format!("the destination sees the identity {identity}"));
    }
    if matches!(e.way, Way::Tunnel { .. }) {
        steps.push(format!("the client's certificate: {certificate}"));
    }
    if let Some(v) = &e.verdict {
        steps.extend(decision(snapshot, e, v));
    }
    steps
}

fn target(to: &str, address: SocketAddr, e: &Explanation) -> String {
    let address = address.to_string();
    let named = if to == address { address } else { format!("{to} is {address}") };
    match (&e.service, &e.destination) {
        (Some(s), _) => {
            let (taken, all) = (s.endpoints.pickable().len(), s.endpoints.all().len());
            match s.endpoints.is_last_resort() {
                false => format!("{named}: service {}, {taken} of {all} endpoints ready", s.service.key),
                true => format!(
                    "{named}: service {}, no endpoint ready; {taken} of {all} are told to end and still serve",
                    s.service.key
                ),
            }
        }
        (None, Some(w)) => format!("{named}: the own address of {}/{}", w.namespace, w.name),
        (None, None) => format!("{named}: the mesh does not know it"),
    }
}

fn refusal(e: &Explanation) -> Option<String> {
    let reason = e.refused()?;
    Some(match reason {
        Reason::NoHealthyEndpoint => "refused: none of its endpoints takes connections".to_owned(),
        Reason::UnknownPort => {
            let ports = e.service.iter().flat_map(|s| &s.service.ports).map(|p| p.service_port.to_string());
            format!("refused: the service has no such port, only {}", ports.collect::<Vec<_>>().join(", "))
        }
        Reason::UnknownWaypoint => "refused: its waypoint is not known, or not ready".to_owned(),
        other => format!("refused: {other}"),
    })
}

fn way(source: &Workload, e: &Explanation) -> String {
    match &e.way {
        Way::Direct => {
            format!("both are on node {}: the kernel joins them, no proxy in between", source.node)
        }
        Way::Tunnel { hop, waypoint: false } => {
            let tunnel = format!("through an HBONE tunnel (mutual TLS) to {hop}");
            match who_always_encrypts(source, e) {
                Some(w) => format!(
                    "{tunnel}, though both are on node {}: {}/{} is to be encrypted always",
                    source.node, w.namespace, w.name
                ),
                None if keeps_clients(source, e) => {
                    format!("{tunnel}: the service keeps a client at its endpoint (sessionAffinity)")
                }
                None => tunnel,
            }
        }
        Way::Tunnel { hop, waypoint: true } => {
            format!("through an HBONE tunnel (mutual TLS) to its waypoint at {hop}, which decides the rest")
        }
        Way::Plain => "as plain TCP: the destination is not in the mesh".to_owned(),
        Way::Passthrough => "as plain TCP, untouched".to_owned(),
        Way::Unmeshed => "as plain TCP: the client is not in the mesh, nothing of it is captured".to_owned(),
        Way::Refused(reason) => format!("refused: {reason}"),
    }
}

/// Of two on one node, the one because of which the kernel does not join them.
fn who_always_encrypts<'w>(source: &'w Workload, e: &'w Explanation) -> Option<&'w Workload> {
    let destination = e.destination.as_deref().filter(|w| w.node == source.node)?;
    [destination, source].into_iter().find(|w| w.always_encrypt)
}

/// Whether the kernel does not join two on one node since it cannot know which endpoint a client stays with.
fn keeps_clients(source: &Workload, e: &Explanation) -> bool {
    e.destination.as_ref().is_some_and(|w| w.node == source.node)
        && e.service.as_ref().is_some_and(|s| s.service.load_balancing.client_affinity)
}

fn decision(snapshot: &Snapshot, e: &Explanation, v: &Verdict) -> Vec<String> {
    let held = e.held;
    let mut steps = vec![match (held.deny, held.allow) {
        (0, 0) => "no policy holds for the destination".to_owned(),
        (deny, allow) => format!("{deny} DENY and {allow} ALLOW policies hold for the destination"),
    }];
    let named = v.policy.as_ref().and_then(|key| snapshot.policy(key));
    steps.push(match (named, v.refused) {
        (Some(p), Some(reason)) => {
            format!("{} policy {} matches: refused ({reason})", action(p.action), p.key)
        }
        (Some(p), None) => format!("{} policy {} matches: allowed", action(p.action), p.key),
        (None, Some(reason @ Reason::PolicyUnknown)) => {
            let unknown = v.policy.as_ref().map(ToString::to_string).unwrap_or_default();
            format!("policy {unknown} was made for the destination and never received: refused ({reason})")
        }
        (None, Some(reason)) => format!("no ALLOW policy matches: refused ({reason})"),
        (None, None) if held.deny > 0 => {
            "no DENY policy matches, and there is no ALLOW policy: allowed".to_owned()
        }
        (None, None) => "allowed".to_owned(),
    });
    if let Some(p) = v.dry_run.as_ref().and_then(|key| snapshot.policy(key)) {
        steps.push(format!("{} policy {} is in dry run and would match", action(p.action), p.key));
    }
    steps
}
