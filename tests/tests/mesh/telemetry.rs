//! Telemetry: metrics, access log and command line agree with what the applications did, to the byte.

use crate::stage::{DIRECT, INTO, SOON, TUNNEL, Way, spiffe, well};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::net::SocketAddr;
use weft_tests::{Agent, Mesh, app, eventually, require_kernel};

/// How many connections of each family a scenario makes on each way.
const CALLS: u64 = 3;
/// What `greet` sends: a word, which comes back behind the greeting.
const TO_SERVER: u64 = 5;
const TO_CLIENT: u64 = 16;

/// The sum of a metric's series that have all of these labels.
fn sum(metrics: &str, name: &str, labels: &[(&str, &str)]) -> u64 {
    let wanted: Vec<_> = labels.iter().map(|(label, value)| format!("{label}=\"{value}\"")).collect();
    let series =
        metrics.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('{')?.split_once("} "));
    let ours = series.filter(|(of, _)| wanted.iter().all(|label| of.split(',').any(|one| one == label)));
    ours.filter_map(|(_, value)| value.trim().parse::<u64>().ok()).sum()
}

fn greet_everywhere(mesh: &Mesh, ways: &[Way]) -> Result<()> {
    for way in ways {
        for to in way.targets(mesh, 7002)? {
            for _ in 0..CALLS {
                well(&format!("{} → {to}", way.from), &way.call(mesh, &["greet", &to.to_string()])?)?;
            }
        }
    }
    Ok(())
}

#[test]
fn metrics_count_every_connection_and_byte_once_on_each_side() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let mesh = Mesh::bookshop("metrics")?;
    let _server = app::serve(mesh.pod("bookshop/reviews")?, "greet", 7002)?;
    greet_everywhere(&mesh, &[TUNNEL, DIRECT, INTO])?;
    let sides = [
        (TUNNEL, "node-a", "source", "mutual_tls"),
        (TUNNEL, "node-b", "destination", "mutual_tls"),
        (DIRECT, "node-b", "source", "unknown"),
        (DIRECT, "node-b", "destination", "unknown"),
        (INTO, "node-b", "destination", "unknown"),
    ];
    for (way, node, reporter, security) in sides {
        let (namespace, workload) = way.from.split_once('/').context("no namespace")?;
        let labels = [
            ("reporter", reporter),
            ("source_workload", workload),
            ("source_workload_namespace", namespace),
            ("destination_workload", "reviews"),
            ("destination_workload_namespace", "bookshop"),
            ("connection_security_policy", security),
            ("request_protocol", "tcp"),
            ("response_flags", "-"),
        ];
        eventually(SOON, || {
            let metrics = mesh.agents[node].metrics()?;
            for (name, expected) in [
                ("istio_tcp_connections_opened_total", 2 * CALLS),
                ("istio_tcp_connections_closed_total", 2 * CALLS),
                ("istio_tcp_received_bytes_total", 2 * CALLS * TO_SERVER),
                ("istio_tcp_sent_bytes_total", 2 * CALLS * TO_CLIENT),
            ] {
                let got = sum(&metrics, name, &labels);
                if got != expected {
                    let of: Vec<_> = metrics.lines().filter(|line| line.starts_with(name)).collect();
                    anyhow::bail!(
                        "{name} of {labels:?} on {node} is {got}, not {expected}:\n{}",
                        of.join("\n")
                    );
                }
            }
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn a_refusal_is_counted_once_with_its_flag() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let mesh = Mesh::bookshop("refusals")?;
    let across = Way { path: "tunnel", from: "bookshop/catalog", to: "bookshop/payments" };
    let within = Way { path: "direct", from: "bookshop/reviews", to: "bookshop/payments" };
    for way in [across, within] {
        for to in way.targets(&mesh, 8080)? {
            let got = way.call(&mesh, &["get", &to.to_string()])?;
            ensure!(got["ok"] == false, "{got}");
        }
        let workload = way.from.trim_start_matches("bookshop/");
        let labels = [
            ("reporter", "destination"),
            ("source_workload", workload),
            ("destination_workload", "payments"),
            ("response_flags", "DENY"),
        ];
        eventually(SOON, || {
            let metrics = mesh.agents["node-b"].metrics()?;
            let closed = sum(&metrics, "istio_tcp_connections_closed_total", &labels);
            ensure!(closed == 2, "{closed} refusals of {workload} in\n{metrics}");
            Ok(())
        })?;
    }
    Ok(())
}

/// The lines of an agent's access log for one way, in one direction.
fn lines(agent: &mut Agent, way: Way, direction: &str) -> Result<Vec<String>> {
    let [from, to] = [way.from, way.to].map(|pod| pod.split('/').next_back().unwrap_or_default());
    let parts = [
        format!("src.workload=\"{from}\""),
        format!("dst.workload=\"{to}\""),
        format!("direction=\"{direction}\""),
    ];
    let log = agent.process().log()?;
    let access = log.lines().filter(|line| line.contains(" access "));
    Ok(access.filter(|line| parts.iter().all(|part| line.contains(part))).map(str::to_owned).collect())
}

#[test]
fn the_access_log_has_one_line_for_each_connection() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let mut mesh = Mesh::bookshop("access")?;
    let _server = app::serve(mesh.pod("bookshop/reviews")?, "greet", 7002)?;
    greet_everywhere(&mesh, &[TUNNEL, DIRECT, INTO])?;
    for (way, node, direction) in [
        (TUNNEL, "node-a", "outbound"),
        (TUNNEL, "node-b", "inbound"),
        (DIRECT, "node-b", "outbound"),
        (DIRECT, "node-b", "inbound"),
        (INTO, "node-b", "inbound"),
    ] {
        let agent = mesh.agent(node)?;
        let lines = eventually(SOON, || {
            let lines = lines(agent, way, direction)?;
            ensure!(lines.len() as u64 == 2 * CALLS, "{way:?} {direction}: {}", lines.join("\n"));
            Ok(lines)
        })?;
        // From the view of the workload on this side.
        let (sent, received) =
            if direction == "outbound" { (TO_SERVER, TO_CLIENT) } else { (TO_CLIENT, TO_SERVER) };
        for line in lines {
            let mut parts = vec![
                format!("bytes_sent={sent} "),
                format!("bytes_recv={received} "),
                format!("path=\"{}\"", way.path),
            ];
            if way.path == "tunnel" {
                parts.push(format!("src.identity=\"{}\"", spiffe(way.from)));
                parts.push(format!("dst.identity=\"{}\"", spiffe(way.to)));
            }
            let missing: Vec<_> = parts.iter().filter(|part| !line.contains(*part)).collect();
            ensure!(missing.is_empty() && line.contains("connection complete"), "{missing:?} not in {line}");
        }
    }
    Ok(())
}

#[test]
fn explain_says_beforehand_what_flows_say_afterwards() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let mesh = Mesh::bookshop("explain")?;
    let calls = [
        ("bookshop/web", "bookshop/catalog"),
        ("bookshop/web", "bookshop/reviews"),
        ("bookshop/web", "bookshop/payments"),
        ("bookshop/catalog", "bookshop/payments"),
        ("bookshop/reviews", "bookshop/payments"),
        ("bookshop/payments", "bookshop/reviews"),
        ("bookshop/catalog", "bookshop/web"),
    ];
    for (from, to) in calls {
        let way = Way { path: "", from, to };
        let (client, server) = (&mesh.pod(from)?.manifest, &mesh.pod(to)?.manifest);
        for target in way.targets(&mesh, 8080)? {
            let asked = ["explain", "--from", from, "--to", &target.to_string()];
            let said = mesh.agents[&client.node].ask(&asked)?;
            let got = way.call(&mesh, &["get", &target.to_string()])?;
            let what = format!("{from} → {target}: {said}, and then {got}");
            ensure!((said["verdict"] == "allowed") == (got["ok"] == true), "{what}");
            let flow = eventually(SOON, || told(&mesh.agents[&server.node], way, target))?;
            ensure!(flow["verdict"] == said["verdict"], "{what}: {flow}");
            ensure!(flow["connection"]["policy"] == said["policy"], "{what}: {flow}");
            if said["verdict"] == "allowed" {
                ensure!(flow["connection"]["path"] == said["path"], "{what}: {flow}");
                ensure!(said["destination"]["identity"] == spiffe(to), "{what}");
            }
        }
    }
    Ok(())
}

/// How the connection to `target` ended, as the server's agent tells it.
fn told(agent: &Agent, way: Way, target: SocketAddr) -> Result<Value> {
    let flows = agent.list(&["flows", "--from", way.from, "--to", way.to])?;
    let found = flows.iter().find(|flow| {
        flow["event"] != "open"
            && flow["connection"]["direction"] == "inbound"
            && flow["connection"]["destination"]["address"] == target.to_string()
    });
    found.cloned().with_context(|| format!("{} → {target} is not told: {}", way.from, json!(flows)))
}

#[test]
fn live_connections_are_listed_and_can_be_closed_by_hand() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let mesh = Mesh::bookshop("close")?;
    let _server = app::serve(mesh.pod("bookshop/reviews")?, "echo", 7000)?;
    let to = TUNNEL.targets(&mesh, 7000)?[1].to_string();
    let args = ["hold", &to, "--connections", "3", "--seconds", "5", "--every-ms", "100"];
    let client = app::start(mesh.pod(TUNNEL.from)?, "hold", &args)?;
    let agent = &mesh.agents["node-b"];
    let live = eventually(SOON, || {
        let live = agent.list(&["connections"])?;
        ensure!(live.len() == 3 && live.iter().all(|c| c["destination"]["address"] == to), "{}", json!(live));
        Ok(live)
    })?;
    let id = live[0]["id"].to_string();
    agent.run(&["connections", "--close", &id])?;
    let held = app::result(client, SOON + SOON)?;
    ensure!(held["held"] == 3 && held["failures"] == json!({ "ECONNRESET": 1 }), "{held}");
    let flows = agent.list(&["flows", "--to", "bookshop/reviews"])?;
    let closed = flows.iter().filter(|flow| flow["reason"] == "closed_by_operator").count();
    ensure!(closed == 1, "{}", json!(flows));
    Ok(())
}

#[test]
fn a_reset_of_a_direct_connection_is_told_by_the_side_it_came_from() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let mesh = Mesh::bookshop("reset-told")?;
    let pod = mesh.pod(DIRECT.to)?;
    let _servers =
        [app::serve(pod, "reset", 7005)?, app::serve(pod, "echo", 7006)?, app::serve(pod, "greet", 7007)?];
    let calls = [
        (7005, vec!["reset", "--by", "server"], "server_reset"),
        (7006, vec!["reset", "--by", "client"], "client_reset"),
        (7007, vec!["greet"], "ok"),
    ];
    for (port, args, reason) in calls {
        for target in DIRECT.targets(&mesh, port)? {
            let to = target.to_string();
            let args: Vec<_> = args[..1].iter().chain([&to.as_str()]).chain(&args[1..]).copied().collect();
            well(&to, &DIRECT.call(&mesh, &args)?)?;
            let flow = eventually(SOON, || told(&mesh.agents["node-b"], DIRECT, target))?;
            ensure!(flow["reason"] == reason && flow["verdict"] == "allowed", "{args:?}: {flow}");
        }
    }
    Ok(())
}
