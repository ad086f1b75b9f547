//! What an agent's memory grows by: nothing to do, workloads to know, connections to hold.

use super::{
    cpu, crowd,
    lab::{Lab, Path, Server, Work},
    session::{Session, Side},
};
use crate::{app, interrupt};
use anyhow::{Result, ensure};
use std::{
    thread,
    time::{Duration, Instant},
};

const IDLE: &str = "memory.idle";
const MANY: (&str, usize) = ("memory.workloads_10k", 10_000);
const VERY_MANY: (&str, usize) = ("memory.workloads_100k", 100_000);
const PER_CONNECTION: &str = "memory.per_connection";

/// How many connections are held.
const HELD: usize = 10_000;
/// How many of them come first, so that tunnels and buffers stand before anything is compared.
const FIRST: usize = 100;
/// Memory does not vary as speed does: each figure is taken from fresh processes, but fewer times.
const RUNS: usize = 3;

/// Runs what was asked for.
pub fn run(session: &mut Session) -> Result<()> {
    session.attempt(&[IDLE, MANY.0], at_rest)?;
    session.attempt(&[VERY_MANY.0], |session| {
        session.progress(&format!("memory with {} workloads", VERY_MANY.1))?;
        crowded(session, &Lab::build(Path::Mesh)?, VERY_MANY)
    })?;
    session.attempt(&[PER_CONNECTION], |session| {
        let runs = session.extent.runs.min(RUNS);
        for run in 1..=runs {
            session.progress(&format!("{HELD} connections held, run {run} of {runs}"))?;
            per_connection(session)?;
        }
        Ok(())
    })?;
    Ok(())
}

/// Agents with nothing to do, that then learn of many workloads.
fn at_rest(session: &mut Session) -> Result<()> {
    let runs = session.extent.runs.min(RUNS);
    for run in 1..=runs {
        session.progress(&format!("memory at rest and with {} workloads, run {run} of {runs}", MANY.1))?;
        let lab = Lab::build(Path::Mesh)?;
        settle(&lab)?;
        record(session, &lab, IDLE)?;
        if session.wants(MANY.0) {
            crowded(session, &lab, MANY)?;
        }
    }
    Ok(())
}

/// Agents that know of so many workloads.
fn crowded(session: &mut Session, lab: &Lab, (name, count): (&'static str, usize)) -> Result<()> {
    lab.apply("crowd.yaml", &crowd::manifests(count))?;
    lab.wait_for_workloads(count)?;
    settle(lab)?;
    record(session, lab, name)
}

/// Keeps the larger of the agents' memories, in MB.
fn record(session: &mut Session, lab: &Lab, name: &'static str) -> Result<()> {
    let memories = memories(lab)?;
    let largest = |of: fn(&cpu::Memory) -> f64| memories.iter().map(of).fold(0.0, f64::max) / 1e6;
    session.record(name, Side::Mesh, largest(|memory| memory.resident));
    session.record_beside(name, "heaps and stacks alone", largest(|memory| memory.anonymous));
    session.record_beside(name, "resident, added up over keeper and worker", largest(|memory| memory.summed));
    session.record_beside(name, "peak of that", largest(|memory| memory.peak));
    session.note(name, "keeper and worker of one agent, pages of the program's file counted once".into());
    Ok(())
}

fn per_connection(session: &mut Session) -> Result<()> {
    const PATIENCE: Duration = Duration::from_secs(120);
    let lab = Lab::build(Path::Mesh)?;
    let to = lab.address(Server::Far, Work::Echo)?.to_string();
    let hold = |count: usize, seconds: u32| {
        let (count, seconds) = (count.to_string(), seconds.to_string());
        let name = format!("hold-{count}");
        app::start(
            lab.client()?,
            &name,
            // Idle but for the first word: a connection that talks is not only held.
            &["hold", &to, "--connections", &count, "--seconds", &seconds, "--every-ms", "600000"],
        )
    };
    let mut first = hold(FIRST, 600)?;
    first.wait_for_line(PATIENCE, |line| line.contains("held"))?;
    settle(&lab)?;
    let before = memories(&lab)?;
    let mut all = hold(HELD, 600)?;
    let line = all.wait_for_line(PATIENCE, |line| line.contains("held"))?;
    let told: serde_json::Value = serde_json::from_str(&line)?;
    ensure!(told["held"] == HELD, "the client holds {told}");
    settle(&lab)?;
    let after = memories(&lab)?;
    let grown = before.iter().zip(&after).map(|(before, after)| after.resident - before.resident);
    let each: Vec<_> = grown.map(|bytes| bytes / HELD as f64 / 1e3).collect();
    session.record(PER_CONNECTION, Side::Mesh, each.iter().copied().fold(0.0, f64::max));
    session.note(PER_CONNECTION, "the agent of the two whose memory grows more".into());
    Ok(())
}

fn memories(lab: &Lab) -> Result<Vec<cpu::Memory>> {
    let agents = lab.proxies();
    ensure!(!agents.is_empty(), "there is no agent to look at");
    agents.into_iter().map(cpu::memory).collect()
}

/// Waits until the agents' memory has stood still for a while, and they do little.
///
/// They never do nothing: they look after the pods and read the sockets' counters, which takes the longer the more
/// connections are held, up to a share that is bounded. It is their memory that is measured, so it is what must be at rest.
fn settle(lab: &Lab) -> Result<()> {
    const STEP: Duration = Duration::from_secs(1);
    const STEPS: u32 = 3;
    const LIMIT: Duration = Duration::from_secs(60);
    /// What an agent may use of a processor while it is at rest.
    const HOUSEKEEPING: f64 = 0.05;
    /// What an agent's memory may move by.
    const STILL: f64 = 0.002;
    let end = Instant::now() + LIMIT;
    let look = || Ok::<_, anyhow::Error>((memories(lab)?, lab.proxies_cpu()?));
    let (mut before, mut still) = (look()?, 0);
    while still < STEPS {
        thread::sleep(STEP);
        interrupt::check()?;
        let now = look()?;
        let moved = before.0.iter().zip(&now.0).map(|(a, b)| (b.resident / a.resident - 1.0).abs());
        let moved = moved.fold(0.0, f64::max);
        let busy = (now.1 - before.1) / (STEP.as_secs_f64() * now.0.len() as f64);
        still = if moved < STILL && busy < HOUSEKEEPING { still + 1 } else { 0 };
        ensure!(
            Instant::now() < end,
            "the agents do not come to rest: in the last second an agent used {:.1} % of a processor, and its memory moved by {:.1} %",
            busy * 100.0,
            moved * 100.0
        );
        before = now;
    }
    Ok(())
}
