//! Volume: many connections, and many bytes on one.

use crate::stage::{DIRECT, TUNNEL, Way, well};
use anyhow::{Result, ensure};
use serde_json::Value;
use std::time::Duration;
use weft_tests::{Mesh, app, require_kernel};

#[test]
fn five_thousand_connections_at_once() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    // Together four fifths of what the limit on open files lets each agent carry.
    const EACH: usize = 2500;
    let mesh = Mesh::bookshop("many")?;
    let servers = [7000, 7001].map(|port| app::serve(mesh.pod(TUNNEL.to)?, "echo", port));
    let _servers = servers.into_iter().collect::<Result<Vec<_>>>()?;
    let mut clients = Vec::new();
    for (port, to) in [7000, 7001].into_iter().zip(TUNNEL.targets(&mesh, 7000)?) {
        let to = std::net::SocketAddr::new(to.ip(), port).to_string();
        let count = EACH.to_string();
        let args = ["hold", &to, "--connections", &count, "--seconds", "20", "--every-ms", "4000"];
        clients.push(app::start(mesh.pod(TUNNEL.from)?, &format!("hold-{port}"), &args)?);
    }
    for client in &mut clients {
        client.wait_for_line(Duration::from_secs(60), |line| line.contains("held"))?;
    }
    for agent in mesh.agents.values() {
        let listed = agent.list(&["connections"])?;
        ensure!(listed.len() == 2 * EACH, "{} connections are listed", listed.len());
        ensure!(listed.iter().all(|c| c["path"] == TUNNEL.path && c["open"] == true));
    }
    for client in clients {
        let held = app::result(client, Duration::from_secs(120))?;
        ensure!(held["held"] == EACH, "{held}");
        well("hold", &held)?;
    }
    Ok(())
}

/// Sends the same number of bytes both ways at once, and compares what was sent with what arrived.
fn both_ways(mesh: &Mesh, way: Way, family: usize, bytes: u64) -> Result<Value> {
    const LIMIT: Duration = Duration::from_secs(300);
    let _server = app::serve(mesh.pod(way.to)?, "bulk", 7006)?;
    let to = way.targets(mesh, 7006)?[family].to_string();
    let args = ["bulk", &to, "--bytes", &bytes.to_string()];
    let got = app::run_within(mesh.pod(way.from)?, LIMIT, &args)?;
    well(&to, &got)?;
    ensure!(got["sent_sha256"] == got["arrived_sha256"] && got["bytes"] == bytes, "{got}");
    Ok(got)
}

#[test]
fn a_gibibyte_each_way_arrives_as_it_was_sent() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    const GIBIBYTE: u64 = 1 << 30;
    let mesh = Mesh::bookshop("bulk")?;
    both_ways(&mesh, TUNNEL, 1, GIBIBYTE)?;
    both_ways(&mesh, TUNNEL, 0, GIBIBYTE / 8 + 3)?;
    for family in [0, 1] {
        both_ways(&mesh, DIRECT, family, GIBIBYTE / 8 + 5)?;
    }
    Ok(())
}
