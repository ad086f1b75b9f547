//! Looks at the calls through the mesh: each is the evidence for one claim, or the error that speaks against it.

use super::{
    calls::{Answer, Way},
    stage::{self, Flows, Markers},
};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use weft_tests::{Cluster, Manifests, wire::Wire};

/// The port of HBONE.
const HBONE: u16 = 15008;

/// Every allowed call was answered, and both sides agree on who they are.
pub fn unchanged(answers: &[Answer]) -> Result<String> {
    let allowed: Vec<_> = answers.iter().filter(|answer| answer.call.way != Way::Refused).collect();
    for answer in &allowed {
        ensure!(answer.is_ok(), "{} → {} got {}", answer.call.from, answer.asked, answer.seen_by_client());
        answer.is_unchanged()?;
    }
    Ok(format!("{} calls, IPv4 and IPv6: both sides agree on both addresses and ports", allowed.len()))
}

/// Calls to services lead to the pods behind them.
pub fn services(cluster: &Cluster) -> Result<String> {
    let mut seen = Vec::new();
    for (service, name) in [("bookshop/catalog", "catalog"), ("bookshop/reviews", "reviews")] {
        for result in stage::call_service(cluster, "bookshop/web", service)? {
            ensure!(result["body"]["name"] == name, "{service}: {result}");
            let text = |value: &Value| value.as_str().unwrap_or("?").to_owned();
            seen.push(format!("{} → {}", text(&result["peer"]), text(&result["body"]["local"])));
        }
    }
    Ok(seen.join(", "))
}

/// No refused call was answered, and none came as far as the application.
pub fn refused(answers: &[Answer]) -> Result<String> {
    let mut seen: Vec<(String, u32)> = Vec::new();
    for answer in answers.iter().filter(|answer| answer.call.way == Way::Refused) {
        let line = format!("{} → {} got {}", answer.call.from, answer.call.to, answer.seen_by_client());
        ensure!(!answer.is_ok(), "{line}");
        ensure!(answer.reached == 0, "{line}, but {} connections reached the application", answer.reached);
        match seen.iter_mut().find(|(known, _)| *known == line) {
            Some((_, times)) => *times += 1,
            None => seen.push((line, 1)),
        }
    }
    ensure!(!seen.is_empty(), "no call was to be refused");
    let lines: Vec<_> = seen.iter().map(|(line, times)| format!("{line} ({times} times)")).collect();
    Ok(format!("no connection reached the applications; {}", lines.join(", ")))
}

/// What crossed the link for the mesh is TLS on HBONE's port, and the marker is nowhere.
pub fn encrypted(wire: &Wire, markers: &Markers) -> Result<String> {
    let tunnels: Vec<_> = wire.to_port(HBONE).filter(|(_, stream)| !stream.payload.is_empty()).collect();
    ensure!(!tunnels.is_empty(), "nothing went to port {HBONE}");
    let open = tunnels.iter().find(|(_, stream)| !stream.is_tls());
    ensure!(
        open.is_none(),
        "a connection to port {HBONE} does not begin with TLS: {:?}",
        open.map(|(direction, _)| direction)
    );
    ensure!(!wire.contains(markers.meshed.as_bytes()), "`{}` could be read off the link", markers.meshed);
    let bytes: usize = tunnels.iter().map(|(_, stream)| stream.payload.len()).sum();
    Ok(format!(
        "{} TLS connections to port {HBONE} carried {bytes} bytes; `{}` is in none of {} frames",
        tunnels.len(),
        markers.meshed,
        wire.frames
    ))
}

/// Callers without a mesh were answered, and could be read.
pub fn plain(answers: &[Answer], wire: &Wire, markers: &Markers) -> Result<String> {
    let calls: Vec<_> = answers.iter().filter(|answer| answer.call.way == Way::Plain).collect();
    ensure!(calls.iter().all(|answer| answer.is_ok()), "{calls:?}");
    ensure!(wire.contains(markers.other.as_bytes()), "`{}` was not on the link", markers.other);
    Ok(format!("{} calls answered; `{}` was read off the link", calls.len(), markers.other))
}

/// The identity that the manifests give to a pod.
pub fn identity(manifests: &Manifests, pod: &str) -> Result<String> {
    let found = manifests.pods.get(pod).with_context(|| format!("the manifests have no pod {pod}"))?;
    Ok(format!("spiffe://cluster.local/ns/{}/sa/{}", found.namespace, found.service_account))
}

/// The agents of both nodes name both ends of a call.
pub fn identities(agents: &mut impl Flows, told: &mut Vec<Value>) -> Result<String> {
    let (from, to) = ("bookshop/web", "bookshop/reviews");
    let [source, destination] = [identity(agents.manifests(), from)?, identity(agents.manifests(), to)?];
    for node in ["node-a", "node-b"] {
        let flows = agents.between(node, from, to)?;
        let right = |flow: &&Value| {
            let connection = &flow["connection"];
            connection["source"]["identity"] == *source
                && connection["destination"]["identity"] == *destination
        };
        let found = flows.iter().find(right);
        told.push(found.cloned().with_context(|| format!("the agent of {node} tells {}", json!(flows)))?);
    }
    Ok(format!("{source} → {destination}, told by the agents of both nodes"))
}

/// The agent that refused names the policy.
pub fn denials(agents: &mut impl Flows, told: &mut Vec<Value>) -> Result<String> {
    let mut seen = Vec::new();
    for (from, policy) in
        [("bookshop/catalog", "bookshop/payments-never"), ("bookshop/reviews", "bookshop/payments-never")]
    {
        let flows = agents.between("node-b", from, "bookshop/payments")?;
        let names_it = |flow: &&Value| flow["verdict"] == "denied" && flow["connection"]["policy"] == policy;
        let denied = flows.iter().find(names_it).with_context(|| format!("{from}: {}", json!(flows)))?;
        told.push(denied.clone());
        seen.push(format!("{from} by {policy}"));
    }
    Ok(seen.join(", "))
}
