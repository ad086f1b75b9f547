//! Connections that are older than their pod's place in the mesh: listed by the command line while they live, and reset when
//! somebody says so.

use crate::stage::{DIRECT, SOON, TUNNEL, well};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::{fs, time::Duration};
use weft_tests::{Mesh, app, eventually, process::kill_group, require_kernel};

/// The older connections that a node's agent lists.
fn older(mesh: &Mesh, node: &str, more: &[&str]) -> Result<Vec<Value>> {
    mesh.agents[node].list(&[&["connections", "--older"], more].concat())
}

/// Whose they are, which way, with whom, and before which step.
fn summary(listed: &[Value]) -> Vec<[&str; 4]> {
    let mut all: Vec<_> = listed
        .iter()
        .map(|one| {
            let field = |at: &str| one.pointer(at).and_then(Value::as_str).unwrap_or_default();
            [field("/pod"), field("/direction"), field("/peer/workload"), field("/change")]
        })
        .collect();
    all.sort_unstable();
    all
}

fn await_pods(mesh: &Mesh, enrolled: bool) -> Result<()> {
    for (node, pod) in [("node-a", "web"), ("node-b", "reviews"), ("node-b", "payments")] {
        eventually(SOON, || {
            let status = mesh.agents[node].ask(&["status"])?;
            let pods = status["pods"].as_array().context("no pods")?;
            let found = pods.iter().any(|p| p["name"] == pod && p["state"] == "enrolled");
            ensure!(found == enrolled, "{pod}: {status}");
            Ok(())
        })?;
    }
    Ok(())
}

/// A client that holds two connections, one for each family.
fn hold(mesh: &Mesh, way: crate::stage::Way, name: &str) -> Result<Vec<weft_tests::Process>> {
    let targets = way.targets(mesh, 7000)?.map(|to| to.to_string());
    let held = targets.iter().enumerate().map(|(n, to)| {
        let args = ["hold", to, "--connections", "1", "--seconds", "60", "--every-ms", "50"];
        let mut client = app::start(mesh.pod(way.from)?, &format!("{name}-{n}"), &args)?;
        client.wait_for_line(SOON, |line| line.contains("held"))?;
        Ok(client)
    });
    held.collect()
}

#[test]
fn older_connections_are_listed_while_they_live_and_reset_by_hand() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let mut mesh = Mesh::bookshop("older")?;
    let with = fs::read_to_string(mesh.control.manifests.join("20-namespaces.yaml"))?;
    let without = with.replace("weft.dev/mesh: enabled", "weft.dev/mesh: disabled");
    ensure!(with != without, "the example has changed");
    let _echo = app::serve(mesh.pod(TUNNEL.to)?, "echo", 7000)?;
    ensure!(older(&mesh, "node-a", &[])?.is_empty(), "nothing was open before");
    mesh.control.apply("20-namespaces.yaml", &without)?;
    await_pods(&mesh, false)?;
    let _before = hold(&mesh, TUNNEL, "before")?;
    mesh.control.apply("20-namespaces.yaml", &with)?;
    await_pods(&mesh, true)?;
    // What is opened now is not older, nor are the tunnels that carry it.
    let _since = hold(&mesh, TUNNEL, "since")?;
    let listed = older(&mesh, "node-a", &[])?;
    let outbound = ["web", "outbound", "reviews", "joined"];
    ensure!(summary(&listed) == [outbound; 2], "{listed:?}");
    ensure!(
        listed.iter().all(|one| one["since"].as_str().is_some_and(|at| at.starts_with("20"))),
        "{listed:?}"
    );
    let inbound = ["reviews", "inbound", "web", "joined"];
    ensure!(summary(&older(&mesh, "node-b", &[])?) == [inbound; 2]);
    ensure!(older(&mesh, "node-b", &["--pod", "bookshop/payments"])?.is_empty(), "it has none");
    // It is the kernel's to say what lives, whichever agent asks.
    let agent = mesh.agent("node-a")?;
    kill_group(agent.id());
    agent.process().wait(SOON)?;
    agent.start_again()?;
    agent.wait_ready()?;
    ensure!(summary(&older(&mesh, "node-a", &[])?) == [outbound; 2], "the next agent knows them");
    // By hand: only those, and both ends are gone.
    let reset = ["connections", "--older", "--pod", "bookshop/web", "--reset"];
    let unmeant = mesh.agents["node-a"].run(&reset).err().context("it is not done")?.to_string();
    ensure!(unmeant.contains("2 connections of bookshop/web"), "{unmeant}");
    let done = mesh.agents["node-a"].run(&[&reset[..], &["--yes"]].concat())?;
    ensure!(done.contains("2 connections of bookshop/web are reset"), "{done}");
    for node in ["node-a", "node-b"] {
        eventually(SOON, || {
            let left = older(&mesh, node, &[])?;
            ensure!(left.is_empty(), "{left:?}");
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn what_a_pod_has_open_of_its_own_when_it_leaves_is_listed_and_what_is_carried_is_not() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let mesh = Mesh::bookshop("older-left")?;
    let with = fs::read_to_string(mesh.control.manifests.join("20-namespaces.yaml"))?;
    let without = with.replace("weft.dev/mesh: enabled", "weft.dev/mesh: disabled");
    let _echo = app::serve(mesh.pod(TUNNEL.to)?, "echo", 7000)?;
    let mut held = hold(&mesh, DIRECT, "direct")?;
    let carried = hold(&mesh, TUNNEL, "tunnel")?;
    mesh.control.apply("20-namespaces.yaml", &without)?;
    await_pods(&mesh, false)?;
    let found = older(&mesh, "node-b", &[])?;
    let (client, server) =
        (["payments", "outbound", "reviews", "left"], ["reviews", "inbound", "payments", "left"]);
    ensure!(summary(&found) == [client, client, server, server], "{found:?}");
    ensure!(older(&mesh, "node-a", &[])?.is_empty(), "what web has open is carried by the agent");
    mesh.agents["node-b"].run(&[
        "connections",
        "--older",
        "--pod",
        "bookshop/payments",
        "--reset",
        "--yes",
    ])?;
    for client in held.drain(..) {
        let got = app::result(client, Duration::from_secs(90))?;
        ensure!(got["ok"] == false, "it went on: {got}");
    }
    for mut client in carried {
        ensure!(client.is_running()?, "what is carried goes on");
    }
    for to in DIRECT.targets(&mesh, 8080)? {
        well("without the mesh", &DIRECT.call(&mesh, &["get", &to.to_string()])?)?;
    }
    Ok(())
}
