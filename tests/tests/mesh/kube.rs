//! Agents that find their pods themselves, as on a node of Kubernetes: control says which pods there are, cgroups and processes
//! where.

use crate::stage::{DIRECT, SOON, TUNNEL, Way, fails_with, well};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::fs;
use weft_tests::{Mesh, app, cgroup, eventually, mesh::Options, require_kernel};

/// The bookshop, with agents that are told of no pods.
fn bookshop(purpose: &str) -> Result<Mesh> {
    let mut options = Options::default();
    options.agent.insert("pods".into(), json!("kube"));
    Mesh::bookshop_with(purpose, &options)
}

/// Into the mesh, from a pod on the same node that is not of it.
const BESIDE: Way = Way { path: "plain", from: "bookshop/payments", to: "bookshop/reviews" };
/// Out of the mesh.
const OUT: Way = Way { path: "pass", from: "bookshop/payments", to: "legacy/desk" };

fn counter(mesh: &Mesh, node: &str, name: &str) -> Result<u64> {
    let bpf = mesh.agents[node].ask(&["bpf"])?;
    let found = bpf["counters"].as_array().context("no counters")?.iter().find(|c| c["name"] == name);
    let value = found.with_context(|| format!("no counter {name}: {bpf}"))?["value"].clone();
    value.as_u64().or_else(|| value.as_str()?.parse().ok()).context("no number")
}

fn states(mesh: &Mesh, node: &str) -> Result<Vec<(String, String)>> {
    let status = mesh.agents[node].ask(&["status"])?;
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    let pods = status["pods"].as_array().context("no pods")?;
    Ok(pods.iter().map(|p| (text(&p["name"]), text(&p["state"]))).collect())
}

#[test]
fn pods_are_found_and_carried_and_those_outside_pass() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let mut mesh = bookshop("kube-found")?;
    let _desk = app::serve_http(mesh.pod(OUT.to)?, 8080)?;
    for way in [TUNNEL, DIRECT, OUT] {
        for to in way.targets(&mesh, 8080)? {
            well(way.path, &way.call(&mesh, &["get", &to.to_string()])?)?;
        }
    }
    // Known to be outside of the mesh, so it may go on into it, and is judged there.
    let into = Way { path: "plain", from: "legacy/desk", to: "bookshop/reviews" };
    for to in into.targets(&mesh, 8080)? {
        let got = into.call(&mesh, &["get", &to.to_string()])?;
        ensure!(got["error"] != "ECONNREFUSED", "it waits as if nobody knew it: {got}");
    }
    // The agents look each second.
    std::thread::sleep(std::time::Duration::from_millis(2500));
    for node in ["node-a", "node-b"] {
        ensure!(counter(&mesh, node, "guarded")? == 0, "nobody was kept waiting");
        // What is attached stays so, second after second.
        let log = mesh.agent(node)?.process().log()?;
        ensure!(
            log.contains("are guarded until they are known") && !log.contains("is another one now"),
            "{log}"
        );
    }
    Ok(())
}

#[test]
fn a_pod_that_control_does_not_know_waits_until_it_does() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let mesh = bookshop("kube-unknown")?;
    let _desk = app::serve_http(mesh.pod(OUT.to)?, 8080)?;
    let file = "33-payments.yaml";
    let text = fs::read_to_string(mesh.control.manifests.join(file))?;
    mesh.control.delete(file)?;
    eventually(SOON, || {
        let states = states(&mesh, "node-b")?;
        ensure!(!states.iter().any(|(name, _)| name == "payments"), "{states:?}");
        Ok(())
    })?;
    for to in BESIDE.targets(&mesh, 8080)? {
        let got = BESIDE.call(&mesh, &["get", &to.to_string()])?;
        fails_with("into the mesh", &got, &["ECONNREFUSED"])?;
    }
    ensure!(counter(&mesh, "node-b", "guarded")? >= 2, "it is counted");
    let guard = mesh.agents["node-b"].ask(&["status"])?["guard"].clone();
    let uid = format!("uid {}", mesh.pod("bookshop/payments")?.manifest.uid);
    ensure!(guard["mode"] == "mesh" && guard["refused"].as_u64() >= Some(2), "{guard}");
    ensure!(guard["cgroup"].as_str().is_some_and(|at| at.ends_with("kubepods")), "{guard}");
    ensure!(guard["waiting"] == json!([uid]), "{uid}: {guard}");
    let metrics = mesh.agents["node-b"].metrics()?;
    for line in ["weft_guard_attached{mode=\"mesh\"} 1", "weft_guard_waiting_pods 1"] {
        ensure!(metrics.contains(line), "{line}: {metrics}");
    }
    for to in OUT.targets(&mesh, 8080)? {
        well("out of the mesh", &OUT.call(&mesh, &["get", &to.to_string()])?)?;
    }
    // Outside of the mesh by its own label: it passes. Then in it.
    let disabled =
        text.replacen("    app: payments\n", "    app: payments\n    weft.dev/mesh: disabled\n", 1);
    ensure!(disabled != text, "the example has changed");
    for manifest in [&disabled, &text] {
        mesh.control.apply(file, manifest)?;
        for to in BESIDE.targets(&mesh, 8080)? {
            eventually(SOON, || well("known", &BESIDE.call(&mesh, &["get", &to.to_string()])?))?;
        }
    }
    eventually(SOON, || {
        let states = states(&mesh, "node-b")?;
        ensure!(states.contains(&("payments".into(), "enrolled".into())), "{states:?}");
        let guard = mesh.agents["node-b"].ask(&["status"])?["guard"].clone();
        ensure!(guard["waiting"] == json!([]), "{guard}");
        Ok(())
    })
}

#[test]
fn the_guard_stands_again_where_the_kubelet_makes_its_cgroup_anew() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let mut mesh = bookshop("kube-anew")?;
    // Every pod of the node ends, and the node's clean-up takes the cgroups.
    let node = mesh.cluster.nodes["node-b"].clone();
    let kubepods = node.cgroup().join("kubepods");
    mesh.applications.clear();
    cgroup::kill(&kubepods)?;
    cgroup::remove(&kubepods)?;
    let agent = mesh.agent("node-b")?;
    let told = |agent: &weft_tests::Agent| -> Result<Value> { Ok(agent.ask(&["status"])?["guard"].clone()) };
    eventually(SOON, || {
        let guard = told(agent)?;
        ensure!(
            guard["cgroup"] == "" && guard["error"].as_str().is_some_and(|e| e.contains("--pods-cgroup")),
            "{guard}"
        );
        Ok(())
    })?;
    // The other driver's.
    let systemd = node.cgroup().join("kubepods.slice");
    fs::create_dir_all(systemd.join("kubepods-podx.slice"))?;
    eventually(SOON, || {
        let guard = told(agent)?;
        ensure!(guard["cgroup"].as_str().is_some_and(|at| at.ends_with("kubepods.slice")), "{guard}");
        Ok(())
    })?;
    agent.process().wait_for_line(SOON, |line| line.contains("the kubelet's cgroup is another one now"))?;
    cgroup::remove(&systemd)
}

#[test]
fn an_agent_that_starts_without_control_knows_its_pods() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let mut mesh = bookshop("kube-cached")?;
    let cache = mesh.cluster.run.directory().join("node-b/cache/state");
    eventually(SOON, || {
        ensure!(cache.exists(), "not written yet");
        Ok(())
    })?;
    weft_tests::process::kill_group(mesh.control.process().id());
    let agent = mesh.agent("node-b")?;
    weft_tests::process::kill_group(agent.id());
    agent.process().wait(SOON)?;
    agent.start_again()?;
    agent.wait_ready()?;
    let found = states(&mesh, "node-b")?;
    ensure!(found.contains(&("reviews".into(), "enrolled".into())), "{found:?}");
    for way in [TUNNEL, DIRECT] {
        for to in way.targets(&mesh, 8080)? {
            well("without control", &way.call(&mesh, &["get", &to.to_string()])?)?;
        }
    }
    Ok(())
}

#[test]
fn a_pod_whose_sandbox_ends_is_let_go_and_comes_back_with_the_next() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let mut mesh = bookshop("kube-sandbox")?;
    let place = mesh.pod("bookshop/payments")?.place.clone();
    let pod = place.cgroup.parent().context("no pod")?.to_owned();
    cgroup::remove(&pod)?;
    mesh.agent("node-b")?;
    eventually(SOON, || {
        let states = states(&mesh, "node-b")?;
        ensure!(
            states.contains(&("payments".into(), "pending".into()))
                || states.contains(&("payments".into(), "outside".into())),
            "{states:?}"
        );
        Ok(())
    })?;
    fs::create_dir_all(&place.cgroup)?;
    let _server = app::serve_http(&place, 8080)?;
    let to_payments = Way { path: "tunnel", from: "bookshop/web", to: "bookshop/payments" };
    eventually(SOON, || {
        let states = states(&mesh, "node-b")?;
        ensure!(states.contains(&("payments".into(), "enrolled".into())), "{states:?}");
        Ok(())
    })?;
    for to in to_payments.targets(&mesh, 8080)? {
        eventually(SOON, || well("after it", &to_payments.call(&mesh, &["get", &to.to_string()])?))?;
    }
    Ok(())
}

#[test]
fn connections_from_before_the_mesh_are_told_and_reset_where_that_is_wished() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let mut options = Options::default();
    options.agent.insert("pods".into(), json!("kube"));
    options.agent.insert("olderConnections".into(), json!("reset"));
    let mut mesh = Mesh::bookshop_with("kube-older", &options)?;
    let with = fs::read_to_string(mesh.control.manifests.join("20-namespaces.yaml"))?;
    let without = with.replace("weft.dev/mesh: enabled", "weft.dev/mesh: disabled");
    ensure!(with != without, "the example has changed");
    mesh.control.apply("20-namespaces.yaml", &without)?;
    for (node, pod) in [("node-a", "web"), ("node-b", "reviews")] {
        eventually(SOON, || {
            let states = states(&mesh, node)?;
            ensure!(states.contains(&(pod.into(), "outside".into())), "{states:?}");
            Ok(())
        })?;
    }
    let _echo = app::serve(mesh.pod(TUNNEL.to)?, "echo", 7000)?;
    let to = TUNNEL.targets(&mesh, 7000)?[0].to_string();
    let args = ["hold", &to, "--connections", "3", "--seconds", "20", "--every-ms", "50"];
    let mut client = app::start(mesh.pod(TUNNEL.from)?, "hold-older", &args)?;
    client.wait_for_line(SOON, |line| line.contains("held"))?;
    mesh.control.apply("20-namespaces.yaml", &with)?;
    // The agent that comes first leaves none to the other.
    eventually(SOON, || {
        let told = ["node-a", "node-b"].map(|node| mesh.agent(node)?.process().log());
        let told = told.into_iter().collect::<Result<String>>()?;
        ensure!(told.contains("connections from before are reset"), "nobody tells of it:\n{told}");
        Ok(())
    })?;
    let got = app::result(client, SOON * 3)?;
    ensure!(got["ok"] == false, "they went on: {got}");
    Ok(())
}
