//! Upgrades and crashes: agents come and go under load.

use crate::stage::{DIRECT, SOON, TUNNEL, Way, well};
use anyhow::{Context, Result, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Map, Value, json};
use std::{fs, thread::sleep, time::Duration};
use weft_tests::{Mesh, Process, app, eventually, mesh::Options, process::kill_group, require_kernel};

/// How long the load lasts.
const SECONDS: &str = "9";
/// How many connections of a client are on their way at the same time.
const IN_FLIGHT: u64 = 8;
/// How many connections are held.
const HELD: u64 = 20;
/// The time for the load to be at full strength.
const WARM_UP: Duration = Duration::from_millis(1500);

fn start(drain_seconds: u64, purpose: &str) -> Result<Mesh> {
    let agent = Map::from_iter([("drainSeconds".to_owned(), json!(drain_seconds))]);
    Mesh::bookshop_with(purpose, &Options { agent, ..Options::default() })
}

/// New connections all the time and some that are held, on one way in both families.
struct Load {
    new: Vec<Process>,
    held: Vec<Process>,
}

/// What became of a load.
#[derive(Debug)]
struct Outcome {
    made: u64,
    /// Failures of new connections, by error.
    failures: Map<String, Value>,
    /// Held connections that broke, by error.
    broken: Map<String, Value>,
}

impl Load {
    fn start(mesh: &Mesh, way: Way, port: u16) -> Result<Self> {
        let pod = mesh.pod(way.from)?;
        let mut load = Self { new: Vec::new(), held: Vec::new() };
        for (n, to) in way.targets(mesh, port)?.into_iter().enumerate() {
            let (to, count, in_flight) = (to.to_string(), HELD.to_string(), IN_FLIGHT.to_string());
            let held = ["hold", &to, "--connections", &count, "--seconds", SECONDS, "--every-ms", "50"];
            load.held.push(app::start(pod, &format!("{}-held-{n}", way.path), &held)?);
            let new = ["connections", &to, "--rate", "100", "--in-flight", &in_flight, "--seconds", SECONDS];
            load.new.push(app::start(pod, &format!("{}-new-{n}", way.path), &new)?);
        }
        for held in &mut load.held {
            held.wait_for_line(SOON, |line| line.contains(r#""held""#))?;
        }
        Ok(load)
    }

    fn end(self) -> Result<Outcome> {
        const LIMIT: Duration = Duration::from_secs(60);
        let mut outcome = Outcome { made: 0, failures: Map::new(), broken: Map::new() };
        for client in self.new {
            let result = app::result(client, LIMIT)?;
            outcome.made += result["connections"].as_u64().context("no count")?;
            add(&mut outcome.failures, &result["failures"]);
        }
        for client in self.held {
            let result = app::result(client, LIMIT)?;
            ensure!(result["held"] == HELD, "{result}");
            add(&mut outcome.broken, &result["failures"]);
        }
        Ok(outcome)
    }
}

fn add(sums: &mut Map<String, Value>, counts: &Value) {
    for (name, count) in counts.as_object().into_iter().flatten() {
        let so_far = sums.get(name).and_then(Value::as_u64).unwrap_or_default();
        sums.insert(name.clone(), json!(so_far + count.as_u64().unwrap_or_default()));
    }
}

impl Outcome {
    /// Nothing was noticed at all.
    fn is_unharmed(&self) -> Result<()> {
        ensure!(self.made > 0 && self.failures.is_empty() && self.broken.is_empty(), "{self:?}");
        Ok(())
    }

    /// Every new connection was made.
    fn no_new_one_failed(&self) -> Result<()> {
        ensure!(self.made > 0 && self.failures.is_empty(), "{self:?}");
        Ok(())
    }

    /// None was refused: what failed was on its way at that moment, and was reset.
    fn none_was_refused(&self) -> Result<()> {
        let resets = self.failures.get("ECONNRESET").and_then(Value::as_u64).unwrap_or_default();
        let others = self.failures.keys().any(|name| name != "ECONNRESET");
        ensure!(self.made > 0 && !others && resets <= 2 * IN_FLIGHT, "{self:?}");
        Ok(())
    }

    /// All that broke of the held ones was reset, and told so: none hangs, and none ended in peace.
    fn broken_ones_were_reset(&self, expected: u64) -> Result<()> {
        let resets = self.broken.get("ECONNRESET").and_then(Value::as_u64).unwrap_or_default();
        ensure!(
            resets == expected && self.broken.len() == usize::from(expected > 0),
            "{expected} resets: {self:?}"
        );
        Ok(())
    }
}

/// A mesh with the servers of both ways, under load.
fn under_load(mesh: &Mesh, event: impl FnOnce() -> Result<()>) -> Result<(Outcome, Outcome)> {
    let _servers = app::serve(mesh.pod(TUNNEL.to)?, "echo", 7000)?;
    let (tunnel, direct) = (Load::start(mesh, TUNNEL, 7000)?, Load::start(mesh, DIRECT, 7000)?);
    sleep(WARM_UP);
    event()?;
    let outcome = (tunnel.end()?, direct.end()?);
    println!("through tunnels: {:?}\ndirect: {:?}", outcome.0, outcome.1);
    Ok(outcome)
}

/// Both ends of a tunnel: the client's node and the server's.
const NODES: [&str; 2] = ["node-a", "node-b"];

#[test]
fn a_crash_of_a_worker_loses_no_new_connection_but_those_on_their_way() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    for node in NODES {
        let mesh = start(25, "crash")?;
        let crash = || mesh.agents[node].crash_worker().map(drop);
        let (tunnel, direct) = under_load(&mesh, crash).context(node)?;
        tunnel.none_was_refused().context(node)?;
        tunnel.broken_ones_were_reset(2 * HELD).context(node)?;
        direct.is_unharmed().context(node)?;
    }
    Ok(())
}

#[test]
fn a_second_agent_takes_over_and_no_new_connection_fails() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    for node in NODES {
        let mut mesh = start(2, "successor")?;
        let mut agent = mesh.agents.remove(node).context("no agent")?;
        let mut former = None;
        let (tunnel, direct) = under_load(&mesh, || {
            former = Some(agent.take_over()?);
            agent.wait_ready()
        })
        .context(node)?;
        tunnel.no_new_one_failed().context(node)?;
        // They had two seconds, and longer to live.
        tunnel.broken_ones_were_reset(2 * HELD).context(node)?;
        direct.is_unharmed().context(node)?;
        let mut former = former.context("no former agent")?;
        let status = former.wait(SOON)?;
        ensure!(status.success(), "{node}: the former agent ended with {status}");
        let status = agent.ask(&["status"])?;
        ensure!(status["ready"] == true, "{status}");
        // What the clients have lost is what is told of it, to the last one.
        let (outbound, inbound) = if node == NODES[0] { (2 * HELD, 0) } else { (0, 2 * HELD) };
        let drains = &status["drains"];
        for (field, count) in [
            ("count", 1),
            ("cut_outbound", outbound),
            ("cut_inbound", inbound),
            ("last_cut_outbound", outbound),
            ("last_cut_inbound", inbound),
        ] {
            ensure!(drains[field] == count, "{node}: {field} is not {count}: {drains}");
        }
        let metrics = agent.metrics()?;
        for (direction, count) in [("outbound", outbound), ("inbound", inbound)] {
            let line = format!("weft_drained_connections_total{{direction=\"{direction}\"}} {count}\n");
            ensure!(metrics.contains(&line), "{node}: no {line} in\n{metrics}");
        }
        let log = former.log()?;
        let told = format!("outbound={outbound} inbound={inbound}");
        ensure!(log.contains(&told) && log.contains("are cut"), "{node}: no {told} in\n{log}");
    }
    Ok(())
}

#[test]
fn a_drain_that_is_long_enough_breaks_nothing() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    for node in NODES {
        let mut mesh = start(40, "patient")?;
        let mut agent = mesh.agents.remove(node).context("no agent")?;
        let mut former = None;
        let (tunnel, direct) = under_load(&mesh, || {
            former = Some(agent.take_over()?);
            agent.wait_ready()
        })
        .context(node)?;
        tunnel.is_unharmed().context(node)?;
        direct.is_unharmed().context(node)?;
        // Nothing is left to wait for.
        former.context("no former agent")?.wait(SOON)?;
        let drains = agent.ask(&["status"])?["drains"].clone();
        ensure!(
            drains["count"] == 1 && drains["cut_outbound"] == 0 && drains["cut_inbound"] == 0,
            "{drains}"
        );
    }
    Ok(())
}

#[test]
fn who_is_to_stay_ends_when_told_and_not_when_relieved() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let agent = Map::from_iter([("drainSeconds".to_owned(), json!(1)), ("stay".to_owned(), json!(true))]);
    let mut mesh = Mesh::bookshop_with("stay", &Options { agent, ..Options::default() })?;
    let mut agent = mesh.agents.remove("node-b").context("no agent")?;
    let worker = Pid::from_raw(agent.worker()?.cast_signed());
    let mut former = agent.take_over()?;
    agent.wait_ready()?;
    // It drains, its worker goes, and it stays: nothing would be gained by starting it again.
    eventually(SOON, || {
        ensure!(kill(worker, None).is_err(), "the former worker still runs");
        Ok(())
    })?;
    sleep(Duration::from_secs(1));
    ensure!(former.is_running()?, "the former agent ended by itself");
    kill(Pid::from_raw(former.id().cast_signed()), Signal::SIGTERM)?;
    let status = former.wait(SOON)?;
    ensure!(status.success(), "the former agent ended with {status}");
    let status = agent.ask(&["status"])?;
    ensure!(status["ready"] == true, "{status}");
    Ok(())
}

/// Stops the worker of an agent as soon as there is one: it will not be ready.
fn hold_up(keeper: u32) -> Result<Pid> {
    let worker = eventually(SOON, || {
        let children = fs::read_to_string(format!("/proc/{keeper}/task/{keeper}/children"))?;
        Ok(children.split_whitespace().next().context("no worker yet")?.parse()?)
    })?;
    let worker = Pid::from_raw(worker);
    kill(worker, Signal::SIGSTOP)?;
    Ok(worker)
}

#[test]
fn of_three_agents_in_a_row_the_middle_one_may_die() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let node = "node-b";
    let mut mesh = start(2, "chain")?;
    let mut agent = mesh.agents.remove(node).context("no agent")?;
    let mut first = None;
    let (tunnel, direct) = under_load(&mesh, || {
        first = Some(agent.take_over()?);
        hold_up(agent.id())?;
        // It follows the one in the middle, which has not told the first one anything yet.
        let middle = agent.take_over()?;
        let worker = hold_up(agent.id())?;
        kill_group(middle.id());
        drop(middle);
        kill(worker, Signal::SIGCONT)?;
        Ok(())
    })?;
    tunnel.no_new_one_failed()?;
    direct.is_unharmed()?;
    let status = first.context("no first agent")?.wait(SOON)?;
    ensure!(status.success(), "the first agent ended with {status}");
    agent.wait_ready()?;
    // The door is the last one's: another finds it there.
    let mut last = agent.take_over()?;
    let status = last.wait(SOON)?;
    ensure!(status.success(), "the last agent ended with {status}");
    agent.wait_ready()?;
    for to in TUNNEL.targets(&mesh, 8080)? {
        well("afterwards", &TUNNEL.call(&mesh, &["get", &to.to_string()])?)?;
    }
    Ok(())
}

#[test]
fn direct_connections_need_no_agent_and_captured_ones_work_again_after_its_restart() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    for node in NODES {
        let mut mesh = start(1, "restart")?;
        let mut agent = mesh.agents.remove(node).context("no agent")?;
        let (_, direct) = under_load(&mesh, || {
            agent.process().signal(Signal::SIGTERM)?;
            let status = agent.process().wait(SOON)?;
            ensure!(status.success(), "ended with {status}");
            agent.start_again()?;
            agent.wait_ready()
        })
        .context(node)?;
        direct.is_unharmed().context(node)?;
        for to in TUNNEL.targets(&mesh, 8080)? {
            eventually(SOON, || well(node, &TUNNEL.call(&mesh, &["get", &to.to_string()])?))?;
        }
    }
    Ok(())
}
