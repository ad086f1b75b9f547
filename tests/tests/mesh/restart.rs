//! Restarts within a second, by the load's own time line: from when and until when new connections failed.

use crate::stage::{DIRECT, SOON, TUNNEL, Way};
use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::{Map, Value, json};
use std::{
    thread::sleep,
    time::{Duration, Instant},
};
use weft_tests::{Agent, Mesh, Process, app, mesh::Options, require_kernel};

/// New connections that are begun each second, in each family.
const RATE: u64 = 200;
/// How long the load lasts.
const SECONDS: &str = "8";
/// The time for the load to be at full strength.
const WARM_UP: Duration = Duration::from_millis(1500);
/// Connections that are held on the direct path.
const HELD: u64 = 20;

/// Both ends of a tunnel: the client's node and the server's.
const NODES: [&str; 2] = ["node-a", "node-b"];

fn start(purpose: &str) -> Result<Mesh> {
    let agent = Map::from_iter([("drainSeconds".to_owned(), json!(1))]);
    Mesh::bookshop_with(purpose, &Options { agent, ..Options::default() })
}

/// What became of the new connections of a client.
#[derive(Debug)]
struct Outcome {
    made: u64,
    failed: u64,
    /// From the beginning of the first connection that failed to that of the last one.
    gap: Duration,
    /// Connections that were begun after the last one that failed, and went well.
    after: u64,
}

impl Outcome {
    fn of(result: &Value) -> Result<Self> {
        let number = |key: &str| result[key].as_f64().with_context(|| format!("no {key} in {result}"));
        let failed = result["failures"].as_object().context("no failures")?.values();
        let ms = |at: f64| Duration::from_secs_f64(at / 1e3);
        let first = result["failed_ms"]["first"].as_f64().map(ms).unwrap_or_default();
        let last = result["failed_ms"]["last"].as_f64().map(ms).unwrap_or_default();
        Ok(Self {
            made: number("connections")? as u64,
            failed: failed.filter_map(Value::as_u64).sum(),
            gap: last - first,
            after: number("since_last_failure")? as u64,
        })
    }
}

/// New connections through tunnels and directly, and held ones on the direct path, while `event` happens to the agent of
/// `node`: what became of the ones through tunnels.
fn under_load(
    mesh: &mut Mesh,
    node: &str,
    event: impl FnOnce(&mut Agent) -> Result<()>,
) -> Result<Vec<Outcome>> {
    let _server = app::serve(mesh.pod(TUNNEL.to)?, "echo", 7000)?;
    let load = |way: Way, what: &str| -> Result<Vec<Process>> {
        let pod = mesh.pod(way.from)?;
        let mut clients = Vec::new();
        for (n, to) in way.targets(mesh, 7000)?.into_iter().enumerate() {
            let (to, rate, held) = (to.to_string(), RATE.to_string(), HELD.to_string());
            let args = match what {
                "new" => vec!["connections", &to, "--rate", &rate, "--in-flight", "16", "--seconds", SECONDS],
                _ => vec!["hold", &to, "--connections", &held, "--seconds", SECONDS, "--every-ms", "50"],
            };
            clients.push(app::start(pod, &format!("{}-{what}-{n}", way.path), &args)?);
        }
        Ok(clients)
    };
    let mut direct = load(DIRECT, "held")?;
    for client in &mut direct {
        client.wait_for_line(SOON, |line| line.contains(r#""held""#))?;
    }
    direct.extend(load(DIRECT, "new")?);
    let tunnel = load(TUNNEL, "new")?;
    sleep(WARM_UP);
    event(mesh.agent(node)?)?;
    const LIMIT: Duration = Duration::from_secs(60);
    let mut outcomes = Vec::new();
    for client in tunnel {
        let outcome = Outcome::of(&app::result(client, LIMIT)?)?;
        println!("{node}: {outcome:?}");
        ensure!(outcome.made > 0 && outcome.after > 0, "it never works again: {outcome:?}");
        outcomes.push(outcome);
    }
    for client in direct {
        let name = client.name().to_owned();
        let result = app::result(client, LIMIT)?;
        ensure!(result["ok"] == true, "{node}: {name}: {result}");
    }
    Ok(outcomes)
}

/// What a second's new connections are to the bounds below.
fn of_a_second(share: f64) -> u64 {
    (RATE as f64 * share) as u64
}

#[test]
fn an_agent_that_is_replaced_at_once_fails_new_connections_for_less_than_a_second() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    for node in NODES {
        let mut mesh = start("stop-start")?;
        let mut down = Duration::ZERO;
        let outcomes = under_load(&mut mesh, node, |agent| {
            agent.process().signal(Signal::SIGTERM)?;
            // Whatever replaces agents starts the next one while this one drains.
            let begun = Instant::now();
            agent.take_over()?.wait(SOON)?;
            agent.wait_ready()?;
            down = begun.elapsed();
            Ok(())
        })?;
        println!("{node}: another one was ready after {down:?}");
        for outcome in outcomes {
            ensure!(outcome.failed <= of_a_second(1.0), "{node}: {outcome:?}");
            ensure!(outcome.gap < Duration::from_secs(1), "{node}: {outcome:?}");
        }
    }
    Ok(())
}

#[test]
fn a_crash_with_an_immediate_start_fails_at_most_a_tenth_of_a_seconds_new_connections() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    for node in NODES {
        let mut mesh = start("kill-start")?;
        let outcomes = under_load(&mut mesh, node, |agent| agent.crash_worker().map(drop))?;
        for outcome in outcomes {
            // Those that were on their way through the worker that died, at most as many as the client keeps in flight.
            ensure!(outcome.failed <= of_a_second(0.1), "{node}: {outcome:?}");
            ensure!(outcome.gap < Duration::from_secs(1), "{node}: {outcome:?}");
        }
    }
    Ok(())
}

#[test]
fn keeper_and_worker_killed_at_once_and_started_again_serve_within_a_second_of_being_ready() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    for node in NODES {
        let mut mesh = start("kill-both")?;
        let mut down = Duration::ZERO;
        let outcomes = under_load(&mut mesh, node, |agent| {
            let begun = Instant::now();
            agent.crash_worker()?;
            agent.process().kill()?;
            agent.start_again()?;
            agent.wait_ready()?;
            down = begun.elapsed();
            Ok(())
        })?;
        println!("{node}: killed and ready again within {down:?}");
        for outcome in outcomes {
            ensure!(outcome.gap < down + Duration::from_secs(1), "{node}: {outcome:?}, ready after {down:?}");
        }
    }
    Ok(())
}
