//! Interfaces that vanish under live traffic: what goes over them ends or resumes, all else goes on, and a new one works.

use crate::stage::{DIRECT, INTO, SOON, TUNNEL, Way, well};
use anyhow::{Context, Result, ensure};
use serde_json::json;
use std::time::Duration;
use weft_tests::{Mesh, Process, app, eventually, require_kernel};

/// Between nodes, to a neighbour of the pod whose interface vanishes.
const BESIDE: Way = Way { path: "tunnel", from: "bookshop/web", to: "bookshop/payments" };

/// How long a client that holds connections may take to its end.
const END: Duration = Duration::from_secs(90);

/// Connections of both families that are held and used all the time.
fn hold(mesh: &Mesh, way: Way, name: &str, port: u16, seconds: &str) -> Result<Vec<Process>> {
    let mut clients = Vec::new();
    for to in way.targets(mesh, port)?.map(|to| to.to_string()) {
        let args = ["hold", &to, "--connections", "5", "--seconds", seconds, "--every-ms", "50"];
        let mut client = app::start(mesh.pod(way.from)?, &format!("{name}-{}", clients.len()), &args)?;
        client.wait_for_line(SOON, |line| line.contains(r#""held""#))?;
        clients.push(client);
    }
    Ok(clients)
}

/// Each held connection goes on, or ended so that its application was told.
fn resumed_or_told(clients: Vec<Process>) -> Result<()> {
    for client in clients {
        let held = app::result(client, END)?;
        let failures = held["failures"].as_object().context("no failures")?;
        let told = ["ECONNRESET", "ETIMEDOUT", "EHOSTUNREACH", "ENETUNREACH", "EPIPE"];
        ensure!(failures.keys().all(|error| told.contains(&error.as_str())), "{held}");
        println!("of {} held connections these ended: {}", held["held"], json!(failures));
    }
    Ok(())
}

fn works_again(mesh: &Mesh, ways: &[Way]) -> Result<()> {
    for way in ways {
        for to in way.targets(mesh, 8080)? {
            eventually(Duration::from_secs(40), || {
                well(way.from, &way.call(mesh, &["get", &to.to_string(), "--patience", "2"])?)
            })?;
        }
    }
    Ok(())
}

#[test]
fn a_pod_whose_interface_vanishes_is_reached_again_by_a_new_one_and_its_neighbours_notice_nothing()
-> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let mesh = Mesh::bookshop("unplugged")?;
    let _server = app::serve(mesh.pod(TUNNEL.to)?, "echo", 7000)?;
    let cut = hold(&mesh, TUNNEL, "cut", 7000, "6")?;
    mesh.cluster.unplug(TUNNEL.to)?;
    for to in TUNNEL.targets(&mesh, 8080)? {
        let got = TUNNEL.call(&mesh, &["get", &to.to_string(), "--patience", "3"])?;
        ensure!(got["ok"] == false, "{got}");
    }
    for to in BESIDE.targets(&mesh, 8080)? {
        well("to the neighbour", &BESIDE.call(&mesh, &["get", &to.to_string()])?)?;
    }
    for agent in mesh.agents.values() {
        ensure!(agent.ask(&["status"])?["ready"] == true);
    }
    mesh.cluster.plug(TUNNEL.to)?;
    works_again(&mesh, &[TUNNEL, DIRECT, INTO])?;
    resumed_or_told(cut)
}

#[test]
fn a_client_whose_interface_vanishes_calls_again_over_a_new_one() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let mut mesh = Mesh::bookshop("unplugged-client")?;
    let _server = app::serve(mesh.pod(TUNNEL.to)?, "echo", 7000)?;
    let cut = hold(&mesh, TUNNEL, "cut", 7000, "6")?;
    mesh.cluster.unplug(TUNNEL.from)?;
    for to in TUNNEL.targets(&mesh, 8080)? {
        let got = TUNNEL.call(&mesh, &["get", &to.to_string(), "--patience", "2"])?;
        ensure!(got["ok"] == false, "{got}");
    }
    let told = |mesh: &mut Mesh, what: &str| {
        eventually(SOON, || {
            let log = mesh.agent("node-a")?.process().log()?;
            let lines = log.lines().filter(|line| line.contains(what) && line.contains(TUNNEL.from)).count();
            ensure!(lines == 2, "{lines} lines, where both addresses should be told of once:\n{log}");
            Ok(())
        })
    };
    told(&mut mesh, "has lost this address")?;
    for to in DIRECT.targets(&mesh, 8080)? {
        well("elsewhere", &DIRECT.call(&mesh, &["get", &to.to_string()])?)?;
    }
    mesh.cluster.plug(TUNNEL.from)?;
    told(&mut mesh, "has its address again")?;
    works_again(&mesh, &[TUNNEL, BESIDE])?;
    resumed_or_told(cut)
}

#[test]
fn a_link_between_nodes_that_vanishes_is_replaced_under_live_connections() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let mesh = Mesh::bookshop("unplugged-link")?;
    let _server = app::serve(mesh.pod(TUNNEL.to)?, "echo", 7000)?;
    let (cut, within) = (hold(&mesh, TUNNEL, "cut", 7000, "6")?, hold(&mesh, DIRECT, "within", 7000, "6")?);
    let link = mesh.cluster.links.first().context("no link")?;
    link.unplug()?;
    for to in TUNNEL.targets(&mesh, 8080)? {
        let got = TUNNEL.call(&mesh, &["get", &to.to_string(), "--patience", "1"])?;
        ensure!(got["ok"] == false, "{got}");
    }
    link.plug()?;
    works_again(&mesh, &[TUNNEL, INTO])?;
    resumed_or_told(cut)?;
    for client in within {
        well("within the node", &app::result(client, END)?)?;
    }
    Ok(())
}
