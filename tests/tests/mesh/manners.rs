//! Manners: how a connection begins and ends is the applications' affair, and the mesh passes it on as it is.

use crate::stage::{WAYS, well};
use anyhow::{Result, ensure};
use serde_json::Value;
use std::{net::SocketAddr, time::Duration};
use weft_tests::{Mesh, Process, app, eventually, require_kernel};

/// Where the servers of one kind listen, one for every way to them.
struct Servers {
    port: u16,
    /// Each with the number of connections that it has been sent.
    running: Vec<(&'static str, Process, usize)>,
}

impl Servers {
    fn start(mesh: &Mesh, manner: &str, port: u16) -> Result<Self> {
        let mut running = Vec::new();
        for pod in ["bookshop/reviews", "legacy/desk"] {
            running.push((pod, app::serve(mesh.pod(pod)?, manner, port)?, 0));
        }
        Ok(Self { port, running })
    }

    /// Runs a client (its command first, the target is put behind it) on every way, in both families.
    fn call_from_everywhere(&mut self, mesh: &Mesh, args: &[&str]) -> Result<()> {
        for way in WAYS {
            for to in way.targets(mesh, self.port)? {
                let got = way.call(mesh, &with_target(args, &to.to_string()))?;
                well(&format!("{} → {to}: {}", way.from, args.join(" ")), &got)?;
                let called = self.running.iter_mut().filter(|(pod, ..)| *pod == way.to);
                called.for_each(|(.., count)| *count += 1);
            }
        }
        Ok(())
    }

    /// Waits until the servers have seen every connection end, each in this manner and after this many bytes.
    fn all_saw(&self, end: &str, received: u64) -> Result<()> {
        for (pod, server, count) in &self.running {
            let seen = eventually(Duration::from_secs(10), || {
                let seen = ended(server)?;
                ensure!(seen.len() == *count, "{pod} saw {} of {count} connections end", seen.len());
                Ok(seen)
            })?;
            let other = seen.iter().find(|one| one["end"] != end || one["received"] != received);
            ensure!(other.is_none(), "{pod} was to see `{end}` after {received} bytes: {other:?}");
        }
        Ok(())
    }
}

fn with_target<'a>(args: &[&'a str], to: &'a str) -> Vec<&'a str> {
    [&args[..1], &[to], &args[1..]].concat()
}

/// What a server printed of the connections that have ended.
fn ended(server: &Process) -> Result<Vec<Value>> {
    let log = server.log()?;
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    Ok(lines.filter(|line| line["end"].is_string()).collect())
}

#[test]
fn the_server_may_speak_first() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let mesh = Mesh::bookshop("greet")?;
    Servers::start(&mesh, "greet", 7002)?.call_from_everywhere(&mesh, &["greet"])
}

#[test]
fn a_half_close_stays_one_in_both_directions() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let mesh = Mesh::bookshop("half")?;
    let mut clients_first = Servers::start(&mesh, "half-close", 7003)?;
    clients_first.call_from_everywhere(&mesh, &["half-close", "--first", "client"])?;
    clients_first.all_saw("closed", 12)?;
    let mut servers_first = Servers::start(&mesh, "half-close", 7004)?;
    servers_first.call_from_everywhere(&mesh, &["half-close", "--first", "server"])?;
    // Ten times 42 bytes after the server's own end, and the one that asked for it.
    servers_first.all_saw("closed", 421)
}

#[test]
fn a_reset_arrives_as_a_reset_in_both_directions() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let mesh = Mesh::bookshop("reset")?;
    Servers::start(&mesh, "reset", 7005)?.call_from_everywhere(&mesh, &["reset", "--by", "server"])?;
    let mut echo = Servers::start(&mesh, "echo", 7006)?;
    echo.call_from_everywhere(&mesh, &["reset", "--by", "client"])?;
    echo.all_saw("ECONNRESET", 1)
}

#[test]
fn idle_connections_live() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    // Longer than the tunnels' PING interval and its timeout, so that both have had their turn.
    const SILENCE: &str = "22000";
    let mesh = Mesh::bookshop("idle")?;
    let servers = Servers::start(&mesh, "echo", 7007)?;
    let mut clients = Vec::new();
    for way in WAYS {
        for to in way.targets(&mesh, servers.port)?.map(|to: SocketAddr| to.to_string()) {
            let args = ["hold", &to, "--connections", "3", "--every-ms", SILENCE, "--seconds", "23"];
            let name = format!("idle-{}-{}", way.from, clients.len());
            clients.push((to.clone(), app::start(mesh.pod(way.from)?, &name, &args)?));
        }
    }
    for (to, client) in clients {
        let held = app::result(client, Duration::from_secs(60))?;
        well(&to, &held)?;
        // One at the beginning, one after the silence, on each.
        ensure!(held["echoes"] == 6, "{to}: {held}");
    }
    Ok(())
}
