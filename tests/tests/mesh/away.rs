//! What is away: the control plane, and the link between the nodes.

use crate::stage::{DIRECT, INTO, SOON, TUNNEL, Way, fails_with, well};
use anyhow::{Context, Result, ensure};
use serde_json::json;
use std::{net::SocketAddr, time::Duration};
use weft_tests::{Mesh, app, eventually, require_kernel};

/// Every kind of call works, and what is refused stays refused.
fn serves_as_before(mesh: &Mesh) -> Result<()> {
    for way in [TUNNEL, DIRECT, INTO] {
        for to in way.targets(mesh, 8080)? {
            well(&format!("{} → {to}", way.from), &way.call(mesh, &["get", &to.to_string()])?)?;
        }
    }
    let denied = Way { path: "direct", from: "bookshop/reviews", to: "bookshop/payments" };
    for to in denied.targets(mesh, 8080)? {
        fails_with("reviews → payments", &denied.call(mesh, &["get", &to.to_string()])?, &["EACCES"])?;
    }
    let service = mesh.cluster.manifests.services.get("bookshop/reviews").context("no service")?;
    for ip in service.addresses.both() {
        let to = SocketAddr::new(ip, 80);
        well(&format!("web → {to}"), &mesh.get("bookshop/web", to)?)?;
    }
    Ok(())
}

/// Kills control, once every certificate that a call needs has been issued, and the state is kept on every node's disk.
fn lose_control(mesh: &mut Mesh) -> Result<()> {
    serves_as_before(mesh)?;
    for node in mesh.agents.keys() {
        let kept = mesh.cluster.run.directory().join(node).join("cache/state");
        eventually(SOON, || {
            ensure!(kept.exists(), "there is no {}", kept.display());
            Ok(())
        })?;
    }
    mesh.control.process().kill()
}

#[test]
fn without_control_the_last_state_keeps_serving() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let mut mesh = Mesh::bookshop("no-control")?;
    lose_control(&mut mesh)?;
    for agent in mesh.agents.values() {
        eventually(SOON, || {
            let status = agent.ask(&["status"])?;
            ensure!(status["ready"] == true && status["control"]["connected"] == false, "{status}");
            Ok(())
        })?;
    }
    serves_as_before(&mesh)?;
    mesh.control.start_again()?;
    for agent in mesh.agents.values() {
        eventually(SOON, || {
            let status = agent.ask(&["status"])?;
            ensure!(status["control"]["connected"] == true, "{status}");
            Ok(())
        })?;
    }
    serves_as_before(&mesh)?;
    // It has not only come back, it is listened to.
    mesh.control.delete("50-policies.yaml")?;
    let opened = Way { path: "direct", from: "bookshop/reviews", to: "bookshop/payments" };
    for to in opened.targets(&mesh, 8080)? {
        eventually(SOON, || well("after the policy", &opened.call(&mesh, &["get", &to.to_string()])?))?;
    }
    Ok(())
}

/// Waits until an agent serves what it kept.
fn serves_its_cache(mesh: &Mesh, node: &str) -> Result<()> {
    eventually(SOON, || {
        let status = mesh.agents[node].ask(&["status"])?;
        let control = &status["control"];
        ensure!(status["ready"] == true && control["from_cache"] == true, "{status}");
        ensure!(control["connected"] == false, "{status}");
        // What could not be enrolled at first is tried again; a certificate that is not there stays away.
        let pods = status["pods"].as_array().context("no pods")?;
        ensure!(pods.iter().all(|pod| pod["state"] == "enrolled" || pod["state"] == "outside"), "{status}");
        ensure!(status["failing_certificates"] == json!([]), "{status}");
        Ok(())
    })
}

#[test]
fn a_worker_that_crashes_without_control_is_replaced_by_one_that_serves() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let mut mesh = Mesh::bookshop("crash-alone")?;
    lose_control(&mut mesh)?;
    for node in ["node-a", "node-b"] {
        mesh.agent(node)?.crash_worker()?;
        serves_its_cache(&mesh, node)?;
    }
    serves_as_before(&mesh)
}

#[test]
fn an_agent_that_takes_over_without_control_serves() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let mut mesh = Mesh::bookshop("over-alone")?;
    lose_control(&mut mesh)?;
    for node in ["node-a", "node-b"] {
        let agent = mesh.agent(node)?;
        agent.take_over()?.wait(SOON)?;
        serves_its_cache(&mesh, node)?;
    }
    serves_as_before(&mesh)
}

#[test]
fn an_agent_that_starts_without_control_serves_its_last_state() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let mut mesh = Mesh::bookshop("cached")?;
    lose_control(&mut mesh)?;
    for node in ["node-a", "node-b"] {
        let agent = mesh.agent(node)?;
        agent.process().stop(SOON)?;
        agent.start_again()?;
        serves_its_cache(&mesh, node)?;
    }
    serves_as_before(&mesh)
}

#[test]
fn a_link_that_was_down_carries_old_and_new_connections_again() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let mesh = Mesh::bookshop("link")?;
    let _echo = app::serve(mesh.pod(TUNNEL.to)?, "echo", 7000)?;
    let link = mesh.cluster.links.first().context("no link")?;
    let mut held = Vec::new();
    for to in TUNNEL.targets(&mesh, 7000)?.map(|to| to.to_string()) {
        let args = ["hold", &to, "--connections", "5", "--seconds", "6", "--every-ms", "50"];
        let mut client = app::start(mesh.pod(TUNNEL.from)?, &format!("hold-{}", held.len()), &args)?;
        client.wait_for_line(SOON, |line| line.contains("held"))?;
        held.push(client);
    }
    link.down()?;
    for to in TUNNEL.targets(&mesh, 8080)? {
        let got = TUNNEL.call(&mesh, &["get", &to.to_string(), "--patience", "1"])?;
        ensure!(got["ok"] == false, "{got}");
    }
    for to in DIRECT.targets(&mesh, 8080)? {
        well("within the node", &DIRECT.call(&mesh, &["get", &to.to_string()])?)?;
    }
    link.up()?;
    for to in TUNNEL.targets(&mesh, 8080)? {
        eventually(SOON, || {
            well("back", &TUNNEL.call(&mesh, &["get", &to.to_string(), "--patience", "1"])?)
        })?;
    }
    for client in held {
        well("held meanwhile", &app::result(client, Duration::from_secs(60))?)?;
    }
    Ok(())
}
