//! Limits that are reached: what is too much waits or is refused, and says so; what lives lives on; and it passes.

use crate::stage::{SOON, TUNNEL, well};
use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value, json};
use std::{net::SocketAddr, time::Duration};
use weft_tests::{Agent, Mesh, Process, app, eventually, mesh::Options, require_kernel};

/// How long a client may take to its end.
const END: Duration = Duration::from_secs(90);

/// A client in the bookshop's web pod that holds `connections` to `to` for `seconds`, and uses them all the time.
fn hold(mesh: &Mesh, name: &str, to: SocketAddr, connections: &str, seconds: &str) -> Result<Process> {
    let to = to.to_string();
    let args = ["hold", &to, "--connections", connections, "--seconds", seconds, "--every-ms", "50"];
    app::start(mesh.pod(TUNNEL.from)?, name, &args)
}

/// How much of something `status` counts as lost.
fn lost(agent: &Agent, what: &str) -> Result<u64> {
    let status = agent.ask(&["status"])?;
    let drops = status["drops"].as_array().map_or(&[][..], Vec::as_slice);
    let found = drops.iter().find(|drop| drop["what"].as_str().is_some_and(|w| w.contains(what)));
    Ok(found.and_then(|drop| drop["count"].as_u64()).unwrap_or_default())
}

#[test]
fn without_files_new_connections_wait_and_live_ones_go_on_until_there_are_some() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let mut mesh = Mesh::bookshop("files")?;
    let _echo = app::serve(mesh.pod(TUNNEL.to)?, "echo", 7000)?;
    let [to, _] = TUNNEL.targets(&mesh, 7000)?;
    let mut live = hold(&mesh, "live", to, "10", "20")?;
    live.wait_for_line(SOON, |line| line.contains(r#""held""#))?;
    let limit = mesh.agent("node-a")?.limit_files(Some(20))?;
    let more = hold(&mesh, "more", to, "60", "2")?;
    // It says what is lacking, how much of it there may be, and what to do.
    let told = |line: &str| {
        let parts =
            ["Too many open files", &format!("may have {limit} files"), "LimitNOFILE", "maxConnections"];
        parts.iter().all(|part| line.contains(part))
    };
    mesh.agent("node-a")?.process().wait_for_line(SOON, told)?;
    std::thread::sleep(Duration::from_secs(2));
    let lines = mesh.agent("node-a")?.process().log()?.lines().filter(|line| told(line)).count();
    ensure!(lines <= 8, "it complains {lines} times within seconds");
    let agent = &mesh.agents["node-a"];
    agent.limit_files(None)?;
    // The ones that waited are through, the ones that lived noticed nothing, and the agent answers again.
    for (name, client, count) in [("more", more, 60), ("live", live, 10)] {
        let held = app::result(client, END)?;
        well(name, &held)?;
        ensure!(held["held"] == count, "{held}");
    }
    let waited = lost(agent, "want of files")?;
    ensure!(
        (1..5000).contains(&waited),
        "{waited} attempts in a few seconds: asking again and again, or not at all"
    );
    ensure!(agent.ask(&["status"])?["ready"] == true);
    Ok(())
}

#[test]
fn without_files_at_the_servers_node_new_connections_fail_for_a_reason_that_is_told() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let mut mesh = Mesh::bookshop("files-there")?;
    let _echo = app::serve(mesh.pod(TUNNEL.to)?, "echo", 7000)?;
    let [to, _] = TUNNEL.targets(&mesh, 7000)?;
    let mut live = hold(&mesh, "live", to, "10", "12")?;
    live.wait_for_line(SOON, |line| line.contains(r#""held""#))?;
    let limit = mesh.agent("node-b")?.limit_files(Some(10))?;
    let more = hold(&mesh, "more", to, "40", "1")?;
    mesh.agent("node-b")?.process().wait_for_line(SOON, |line| {
        line.contains("Too many open files") && line.contains(&format!("may have {limit} files"))
    })?;
    let refused = app::result(more, END)?;
    let failures = refused["failures"].as_object().context("no failures")?;
    ensure!(failures.len() == 1 && failures.contains_key("ECONNRESET"), "{refused}");
    let agent = &mesh.agents["node-b"];
    agent.limit_files(None)?;
    let flows = agent.list(&["flows", "--from", TUNNEL.from, "--to", TUNNEL.to])?;
    let told = flows.iter().filter(|flow| flow["reason"] == "limit_reached").count() as u64;
    ensure!(Some(told) == failures["ECONNRESET"].as_u64(), "{told} are told of {refused}");
    let again = app::result(hold(&mesh, "again", to, "40", "1")?, END)?;
    well("when there are files again", &again)?;
    well("live", &app::result(live, END)?)
}

#[test]
fn more_connections_than_may_be_are_refused_and_counted_and_the_others_live() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let agent = Map::from_iter([("maxConnections".to_owned(), Value::from(12))]);
    let mut mesh = Mesh::bookshop_with("most", &Options { agent, ..Options::default() })?;
    let _echo = app::serve(mesh.pod(TUNNEL.to)?, "echo", 7000)?;
    let [to, _] = TUNNEL.targets(&mesh, 7000)?;
    let mut live = hold(&mesh, "live", to, "8", "6")?;
    live.wait_for_line(SOON, |line| line.contains(r#""held""#))?;
    let more = app::result(hold(&mesh, "more", to, "10", "1")?, END)?;
    let refused = more["failures"]["ECONNRESET"].as_u64().with_context(|| more.to_string())?;
    ensure!(refused + more["held"].as_u64().unwrap_or_default() == 10, "{more}");
    // A tunnel takes a place as well, at the servers' node.
    let counted = mesh.agents.values().map(|agent| lost(agent, "maxConnections")).sum::<Result<u64>>()?;
    ensure!(counted == refused, "{counted} are counted of {refused}: {}", json!(more));
    let complaint = |line: &str| {
        line.contains("refused") && line.contains("there are 12") && line.contains("`maxConnections`")
    };
    let complained = mesh
        .agents
        .values_mut()
        .any(|agent| agent.process().log().is_ok_and(|log| log.lines().any(complaint)));
    ensure!(complained, "no agent says why");
    well("live", &app::result(live, END)?)?;
    eventually(SOON, || well("afterwards", &app::result(hold(&mesh, "again", to, "8", "0.1")?, END)?))
}
