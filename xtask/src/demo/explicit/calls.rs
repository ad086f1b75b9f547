//! The calls of the story, through the agents' explicit listeners.

use super::super::{
    calls::{Answer, CALLS, Door, Way},
    looks,
    stage::{Flows, Markers, PORT},
};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::{collections::BTreeSet, net::SocketAddr};
use weft_tests::Loopback;

const DOORS: [Door; 2] = [Door::Connect, Door::Socks];

/// Makes every call of a meshed caller, through both of its listeners and to both addresses.
pub fn make(mesh: &Loopback, markers: &Markers) -> Result<Vec<Answer>> {
    let mut answers = Vec::new();
    for call in CALLS {
        if !mesh.manifests.is_meshed(mesh.pod(call.from)?) {
            continue;
        }
        for address in mesh.pod(call.to)?.addresses.both() {
            let asked = SocketAddr::new(address, PORT).to_string();
            for door in DOORS {
                let header = format!("x-marker: {}", markers.meshed);
                let before = accepted(mesh, call.to)?;
                let result = get(mesh, call.from, door, &asked, &["--header", &header])?;
                // The question itself is one connection.
                let reached = accepted(mesh, call.to)?.saturating_sub(before + 1);
                answers.push(Answer { call, door: Some(door), asked: asked.clone(), result, reached });
            }
        }
    }
    Ok(answers)
}

/// Allowed calls were answered by whom they were for, and each agent tells the caller's and the server's identity.
pub fn arrived(mesh: &mut Loopback, answers: &[Answer]) -> Result<String> {
    let allowed: Vec<_> = answers.iter().filter(|answer| answer.call.way != Way::Refused).collect();
    ensure!(!allowed.is_empty(), "no call was to be allowed");
    let mut pairs = BTreeSet::new();
    for answer in &allowed {
        let (from, to) = (answer.call.from, answer.call.to);
        ensure!(answer.is_ok(), "{from} → {} got {}", answer.asked, answer.seen_by_client());
        let name = to.rsplit('/').next().unwrap_or(to);
        ensure!(answer.result["body"]["name"] == name, "{from} → {}: {}", answer.asked, answer.result);
        ensure!(answer.reached == 1, "{from} → {}: {} connections arrived", answer.asked, answer.reached);
        pairs.insert((from, to));
    }
    for (from, to) in &pairs {
        told(mesh, from, to, allowed.iter().filter(|a| (a.call.from, a.call.to) == (*from, *to)).count())?;
    }
    let shown: Vec<_> = pairs.iter().map(|(from, to)| format!("{from} → {to}")).collect();
    Ok(format!(
        "{} calls, IPv4 and IPv6, with the right identities at the server's agent: {}",
        allowed.len(),
        shown.join(", ")
    ))
}

/// The server's agent tells at least `count` connections of the pair, all of them with both identities.
fn told(mesh: &mut Loopback, from: &str, to: &str, count: usize) -> Result<()> {
    let node = mesh.pod(to)?.node.clone();
    let [source, destination] =
        [looks::identity(&mesh.manifests, from)?, looks::identity(&mesh.manifests, to)?];
    let flows = weft_tests::eventually(std::time::Duration::from_secs(3), || {
        let mut flows = mesh.between(&node, from, to)?;
        flows.retain(|flow| flow["event"] == "close" && flow["connection"]["direction"] == "inbound");
        ensure!(flows.len() >= count, "{} of {count} connections from {from} to {to} are told", flows.len());
        Ok(flows)
    })?;
    let right = |flow: &Value| {
        let connection = &flow["connection"];
        connection["source"]["identity"] == *source
            && connection["destination"]["identity"] == *destination
            && connection["security"] == "mutual_tls"
    };
    let odd = flows.iter().find(|flow| !right(flow));
    ensure!(odd.is_none(), "{from} → {to} was told as {}", json!(odd));
    Ok(())
}

/// Calls to services by their names lead to the pods behind them.
pub fn by_name(mesh: &Loopback) -> Result<String> {
    let mut seen = Vec::new();
    for (asked, name) in [("catalog:80", "catalog"), ("reviews.bookshop.svc.cluster.local:80", "reviews")] {
        for door in DOORS {
            let result = get(mesh, "bookshop/web", door, asked, &[])?;
            ensure!(result["body"]["name"] == name, "{asked}: {result}");
        }
        seen.push(format!("{asked} → {name}"));
    }
    Ok(seen.join(", "))
}

fn get(mesh: &Loopback, from: &str, door: Door, asked: &str, more: &[&str]) -> Result<Value> {
    let doors = mesh.doors(from)?;
    let (flag, at) = match door {
        Door::Connect => ("--connect", doors.connect),
        Door::Socks => ("--socks", doors.socks),
    };
    let at = at.to_string();
    mesh.app(&[&["get", asked, flag, &at], more].concat())
}

/// How many connections the application of a pod has accepted, as it tells somebody who asks it directly.
fn accepted(mesh: &Loopback, pod: &str) -> Result<u64> {
    let told = mesh.app(&["get", &SocketAddr::new(mesh.host(pod)?, PORT).to_string()])?;
    told["body"]["connection"].as_u64().with_context(|| format!("{pod} does not count: {told}"))
}
