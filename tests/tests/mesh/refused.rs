//! A resource that an agent refuses: control hears of it, and everything else holds.

use crate::{
    between::Between,
    stage::{DIRECT, SOON, TUNNEL, Way, await_policy, fails_with, well},
};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::net::{Ipv4Addr, SocketAddr};
use weft_tests::{Agent, Mesh, eventually, http, require_kernel};

/// The workload of the policy that is spoiled.
const CATALOG: Way = Way { path: "direct", from: "bookshop/web", to: "bookshop/catalog" };

/// Two policies in one file, which control sends at once: one that arrives spoiled, and one that does not.
fn policies(block: &str) -> String {
    let policy = |name: &str, app: &str| {
        format!(
            "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
             metadata: {{name: {name}, namespace: bookshop}}\n\
             spec: {{selector: {{matchLabels: {{app: {app}}}}}, action: DENY, \
             rules: [{{from: [{{source: {{ipBlocks: [{block}]}}}}]}}]}}\n"
        )
    };
    policy("sound", "web") + &policy("spoiled", "catalog")
}

/// What control knows of the agents.
fn agents(mesh: &Mesh) -> Result<Vec<Value>> {
    let at = SocketAddr::from((Ipv4Addr::LOCALHOST, 15014));
    let (_, body) = http::get(&mesh.cluster.control.netns, at, "/debug/agents")?;
    Ok(serde_json::from_str(&body)?)
}

#[test]
fn a_refused_resource_is_told_to_control_and_the_others_hold() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let (mut mesh, between) = Between::bookshop("nack", |_| {})?;
    mesh.agents.values_mut().try_for_each(Agent::wait_ready)?;
    ensure!(agents(&mesh)?.iter().all(|a| a["refused"] == 0), "{:?}", agents(&mesh)?);
    for to in CATALOG.targets(&mesh, 8080)? {
        well("before", &CATALOG.call(&mesh, &["get", &to.to_string()])?)?;
    }
    between.spoil(Some("bookshop/spoiled"));
    mesh.control.apply("two.yaml", &policies("192.0.2.0/24"))?;
    await_policy(&mesh, "sound", true)?;
    // Control names who refuses what, in its log and in what it shows.
    let (object, field) = ("bookshop/spoiled", "source_ips");
    for node in ["node-a", "node-b"] {
        mesh.control.process().wait_for_line(SOON, |line| {
            ["refuse", node, object, field].iter().all(|part| line.contains(part))
        })?;
        eventually(SOON, || {
            let all = agents(&mesh)?;
            let agent = all.iter().find(|a| a["node"] == node).context("not connected")?;
            let told = agent["last_refusal"].as_str().unwrap_or_default();
            ensure!(agent["refused"] == 1 && told.contains(object) && told.contains(field), "{agent}");
            Ok(())
        })?;
        let status = mesh.agents[node].ask(&["status"])?;
        let refused = status["control"]["refused"].as_array().context("nothing is refused")?;
        ensure!(refused.len() == 1 && refused[0]["resource"] == object, "{status}");
        ensure!(refused[0]["error"].as_str().is_some_and(|e| e.contains(field)), "{status}");
        ensure!(status["ready"] == true, "{status}");
    }
    let at = SocketAddr::from((Ipv4Addr::LOCALHOST, 15014));
    let metrics = http::get(&mesh.cluster.control.netns, at, "/metrics")?.1;
    ensure!(metrics.contains("weft_control_responses_refused_total{kind=\"authorization\"} 2"), "{metrics}");
    // Nobody knows what the spoiled policy says, so its workload is closed; nothing else is.
    for to in CATALOG.targets(&mesh, 8080)? {
        let what = "to the workload of the spoiled policy";
        eventually(SOON, || {
            fails_with(what, &CATALOG.call(&mesh, &["get", &to.to_string()])?, &["EACCES", "ECONNRESET"])
        })?;
    }
    for way in [TUNNEL, DIRECT] {
        for to in way.targets(&mesh, 8080)? {
            well(way.from, &way.call(&mesh, &["get", &to.to_string()])?)?;
        }
    }
    // Mended: sent again, it is taken.
    between.spoil(None);
    mesh.control.apply("two.yaml", &policies("198.51.100.0/24"))?;
    await_policy(&mesh, "spoiled", true)?;
    for to in CATALOG.targets(&mesh, 8080)? {
        eventually(SOON, || well("mended", &CATALOG.call(&mesh, &["get", &to.to_string()])?))?;
    }
    for agent in mesh.agents.values() {
        let status = agent.ask(&["status"])?;
        let refused = status["control"]["refused"].as_array().map_or(0, Vec::len);
        ensure!(refused == 0, "{status}");
    }
    Ok(())
}
