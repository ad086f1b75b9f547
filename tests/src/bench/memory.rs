//! What an agent's memory grows by: nothing to do, workloads to know, connections to hold.

use super::{
    cpu, crowd,
    lab::{Lab, Path, Server, Work},
    session::{Session, Side},
};
use crate::app;
use anyhow::{Result, ensure};
use std::{
    thread,
    time::{Duration, Instant},
};

const IDLE: &str = "memory.idle";
const CROWDS: [(&str, usize); 2] = [("memory.workloads_10k", 10_000), ("memory.workloads_100k", 100_000)];
const PER_CONNECTION: &str = "memory.per_connection";
/// All figures made here.
const NAMES: [&str; 4] = [IDLE, CROWDS[0].0, CROWDS[1].0, PER_CONNECTION];

/// How many connections are held.
const HELD: usize = 10_000;
/// How many of them come first, so that tunnels and buffers stand before anything is compared.
const FIRST: usize = 100;

/// Runs what was asked for. Memory does not vary as speed does: each figure is taken from fresh processes, but fewer times.
pub fn run(session: &mut Session) -> Result<()> {
    let runs = session.extent.runs.min(3);
    for run in 1..=runs {
        if session.wants(IDLE) {
            session.progress(&format!("memory at rest, run {run} of {runs}"));
            let lab = Lab::build(Path::Mesh)?;
            settle(&lab)?;
            record(session, &lab, IDLE)?;
        }
        for (name, count) in CROWDS {
            if session.wants(name) {
                session.progress(&format!("memory with {count} workloads, run {run} of {runs}"));
                let lab = Lab::build(Path::Mesh)?;
                lab.apply("crowd.yaml", &crowd::manifests(count))?;
                lab.wait_for_workloads(count)?;
                settle(&lab)?;
                record(session, &lab, name)?;
            }
        }
        if session.wants(PER_CONNECTION) {
            session.progress(&format!("{HELD} connections held, run {run} of {runs}"));
            per_connection(session)?;
        }
    }
    session.finish(&NAMES);
    Ok(())
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

/// Waits until the agents have been at rest for a while: their processor time stands still.
fn settle(lab: &Lab) -> Result<()> {
    const STEP: Duration = Duration::from_secs(1);
    const LIMIT: Duration = Duration::from_secs(60);
    let end = Instant::now() + LIMIT;
    let mut before = lab.proxies_cpu()?;
    loop {
        thread::sleep(STEP);
        let now = lab.proxies_cpu()?;
        // Two ticks of the clock in a second are housekeeping.
        if now - before < 0.025 {
            return Ok(());
        }
        ensure!(Instant::now() < end, "the agents do not come to rest");
        before = now;
    }
}
