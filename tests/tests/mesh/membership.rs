//! Membership: pods enter and leave the mesh while they run, and may vanish.

use crate::stage::{DIRECT, SOON, TUNNEL, Way, fails_with, well};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::{fs, time::Duration};
use weft_tests::{Mesh, app, cgroup, eventually, process::kill_group, require_kernel};

/// Waits until the agent of a node says that a pod of the bookshop is in this state, or not there.
fn await_state(mesh: &Mesh, node: &str, pod: &str, state: Option<&str>) -> Result<()> {
    eventually(SOON, || {
        let status = mesh.agents[node].ask(&["status"])?;
        let pods = status["pods"].as_array().context("no pods")?;
        let found = pods.iter().find(|p| p["name"] == pod).and_then(|p| p["state"].as_str());
        ensure!(found == state, "{pod} is {found:?}: {status}");
        Ok(())
    })
}

/// One call, and the path that the server's agent saw it take.
fn path(mesh: &Mesh, way: Way, to: std::net::SocketAddr) -> Result<Value> {
    let got = way.call(mesh, &["get", &to.to_string()])?;
    well(&format!("{} → {to}", way.from), &got)?;
    let client = got["local"].as_str().context("no address")?;
    eventually(SOON, || {
        let flows = mesh.agents["node-b"].list(&["flows"])?;
        let found = flows.iter().find(|flow| {
            // The port is the client's own, or where it could not be kept another one of the same address.
            flow["connection"]["source"]["address"] == client && flow["connection"]["direction"] == "inbound"
        });
        Ok(found.with_context(|| format!("{client} is not told: {}", json!(flows)))?["connection"]["path"]
            .clone())
    })
}

#[test]
fn the_label_takes_pods_in_and_out_and_their_connections_live_on() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let mesh = Mesh::bookshop("label")?;
    let with = fs::read_to_string(mesh.control.manifests.join("20-namespaces.yaml"))?;
    let without = with.replace("weft.dev/mesh: enabled", "weft.dev/mesh: disabled");
    ensure!(with != without, "the example has changed");
    let _echo = app::serve(mesh.pod(TUNNEL.to)?, "echo", 7000)?;
    for to in TUNNEL.targets(&mesh, 8080)? {
        ensure!(path(&mesh, TUNNEL, to)? == "tunnel");
    }
    let mut held = Vec::new();
    for way in [TUNNEL, DIRECT] {
        for to in way.targets(&mesh, 7000)?.map(|to| to.to_string()) {
            let args = ["hold", &to, "--connections", "5", "--seconds", "8", "--every-ms", "50"];
            let mut client = app::start(mesh.pod(way.from)?, &format!("hold-{}", held.len()), &args)?;
            client.wait_for_line(SOON, |line| line.contains("held"))?;
            held.push(client);
        }
    }
    mesh.control.apply("20-namespaces.yaml", &without)?;
    for (node, pod) in [("node-a", "web"), ("node-b", "reviews")] {
        eventually(SOON, || {
            let status = mesh.agents[node].ask(&["status"])?;
            let pods = status["pods"].as_array().context("no pods")?;
            ensure!(!pods.iter().any(|p| p["name"] == pod && p["state"] == "enrolled"), "{status}");
            Ok(())
        })?;
    }
    for way in [TUNNEL, DIRECT] {
        for to in way.targets(&mesh, 8080)? {
            well("without the label", &way.call(&mesh, &["get", &to.to_string()])?)?;
        }
    }
    mesh.control.apply("20-namespaces.yaml", &with)?;
    await_state(&mesh, "node-a", "web", Some("enrolled"))?;
    await_state(&mesh, "node-b", "reviews", Some("enrolled"))?;
    for to in TUNNEL.targets(&mesh, 8080)? {
        eventually(SOON, || {
            ensure!(path(&mesh, TUNNEL, to)? == "tunnel");
            Ok(())
        })?;
    }
    for client in held {
        well("held meanwhile", &app::result(client, Duration::from_secs(60))?)?;
    }
    Ok(())
}

#[test]
fn a_namespace_that_vanishes_is_noticed_and_the_others_go_on() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let mut mesh = Mesh::bookshop("vanish")?;
    let payments = mesh.pod("bookshop/payments")?.clone();
    cgroup::kill(&payments.cgroup)?;
    mesh.cluster.control.netns.run(|| {
        let done = std::process::Command::new("ip").args(["netns", "del", payments.netns.name()]).status()?;
        ensure!(done.success(), "ip netns del: {done}");
        Ok(())
    })?;
    let agent = mesh.agent("node-b")?;
    agent
        .process()
        .wait_for_line(SOON, |line| line.contains("bookshop/payments") && line.contains("vanished"))?;
    let status = agent.ask(&["status"])?;
    ensure!(status["ready"] == true, "{status}");
    let pods = status["pods"].as_array().context("no pods")?;
    let gone = pods.iter().find(|p| p["name"] == "payments").context("not told")?;
    ensure!(gone["state"] != "enrolled" && gone["error"].as_str().is_some_and(|e| !e.is_empty()), "{gone}");
    for to in TUNNEL.targets(&mesh, 8080)? {
        well("to its neighbour", &TUNNEL.call(&mesh, &["get", &to.to_string()])?)?;
    }
    let dead = Way { path: "tunnel", from: "bookshop/web", to: "bookshop/payments" };
    for to in dead.targets(&mesh, 8080)? {
        let got = dead.call(&mesh, &["get", &to.to_string(), "--patience", "2"])?;
        fails_with("to nobody", &got, &["ECONNRESET", "ETIMEDOUT", "EAGAIN", "EHOSTUNREACH"])?;
    }
    Ok(())
}

#[test]
fn a_pod_that_left_while_no_agent_ran_is_let_go_by_the_next() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let mut mesh = Mesh::bookshop("left-alone")?;
    let way = Way { path: "tunnel", from: "bookshop/web", to: "bookshop/payments" };
    let agent = mesh.agent("node-b")?;
    kill_group(agent.id());
    agent.process().wait(SOON)?;
    let file = "33-payments.yaml";
    let with = fs::read_to_string(mesh.control.manifests.join(file))?;
    let without = with.replacen("    app: payments\n", "    app: payments\n    weft.dev/mesh: disabled\n", 1);
    ensure!(with != without, "the example has changed");
    mesh.control.apply(file, &without)?;
    // The next one knows nothing of before but what is pinned in the kernel.
    fs::remove_dir_all(mesh.cluster.run.directory().join("node-b/cache"))?;
    let agent = mesh.agent("node-b")?;
    agent.start_again()?;
    agent.wait_ready()?;
    await_state(&mesh, "node-b", "payments", Some("outside"))?;
    // Its own again: what comes reaches it, and nothing of the agent's is left there.
    for to in way.targets(&mesh, 8080)? {
        eventually(SOON, || well("to who has left", &way.call(&mesh, &["get", &to.to_string()])?))?;
    }
    let bpf = mesh.agents["node-b"].ask(&["bpf"])?;
    let programs = bpf["programs"].as_array().context("no programs")?;
    ensure!(programs.iter().filter(|p| !p["pod"].is_null()).count() == 1, "only reviews has one: {bpf}");
    Ok(())
}
