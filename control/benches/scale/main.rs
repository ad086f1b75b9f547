//! How control grows: with the workloads of the mesh, with the nodes that listen, with the pace of changes.
//!
//! Control runs in a process of its own with everything but the Kubernetes client: a source that makes objects up, the fold,
//! discovery over TLS. The nodes are streams of a second process that acknowledge what they get and look at when it was made.
//! Run with `cargo bench -p weft-control --bench scale [-- --workloads N --agents N --rate N --seconds N]…`; without options,
//! a table of combinations.

mod agents;
mod control;
mod objects;

use anyhow::{Context, Result, ensure};
use clap::{Parser, Subcommand};
use serde::{Deserialize, Serialize};
use std::{
    io::{BufRead, BufReader, Write},
    path::PathBuf,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

/// As in `weft-control`.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    role: Option<Role>,
    #[command(flatten)]
    case: Case,
    /// `cargo bench` says so.
    #[arg(long, hide = true)]
    bench: bool,
}

/// What is measured at once.
#[derive(Clone, Debug, clap::Args)]
struct Case {
    /// Workloads in the mesh, twenty on a node, ten behind a service
    #[arg(long)]
    workloads: Option<usize>,
    /// Nodes that are connected
    #[arg(long, default_value_t = 20)]
    agents: usize,
    /// Changes of objects a second
    #[arg(long, default_value_t = 1000)]
    rate: usize,
    /// For how long
    #[arg(long, default_value_t = 15)]
    seconds: u64,
}

#[derive(Subcommand)]
enum Role {
    /// The control plane.
    #[command(hide = true)]
    Control { dir: PathBuf, workloads: usize },
    /// Nodes that listen.
    #[command(hide = true)]
    Agents { dir: PathBuf, url: String, count: usize, resources: usize },
}

/// What the parent tells control.
#[derive(Serialize, Deserialize)]
enum Order {
    /// How it stands.
    Look,
    /// Make changes.
    Change { rate: usize, seconds: u64 },
}

/// What control answers.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Control {
    /// CPU seconds so far.
    cpu: f64,
    /// Resident memory, MB.
    memory: f64,
    /// Changes of objects that were made.
    changes: usize,
}

/// What the nodes' process says, first when all hold everything, then when it is asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Agents {
    /// Seconds until the last node held everything.
    synced: f64,
    /// Bytes of messages to one node for that.
    first: usize,
    /// Bytes to one node since.
    since: usize,
    /// Resources to one node since.
    resources: usize,
    /// From a change of an object to its arrival at a node, in milliseconds: half of them, 99 of 100.
    delay: [f64; 2],
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    match arguments.role {
        Some(Role::Control { dir, workloads }) => control::run(&dir, workloads),
        Some(Role::Agents { dir, url, count, resources }) => agents::run(&dir, &url, count, resources),
        None => {
            println!(
                "{:>9} {:>6} {:>6} | {:>7} {:>8} {:>7} | {:>9} {:>9} {:>8} | {:>7} {:>8} {:>9} {:>8} {:>8}",
                "workloads",
                "agents",
                "rate",
                "load s",
                "load cpu",
                "MB",
                "first s",
                "first MB",
                "cpu s",
                "cpu %",
                "MB",
                "kB/s each",
                "p50 ms",
                "p99 ms"
            );
            match arguments.case.workloads {
                Some(_) => measure(&arguments.case),
                None => cases().iter().try_for_each(measure),
            }
        }
    }
}

/// One thing grows at a time.
fn cases() -> Vec<Case> {
    let case = |workloads, agents, rate| Case { workloads: Some(workloads), agents, rate, seconds: 15 };
    vec![
        case(10_000, 20, 1000),
        case(30_000, 20, 1000),
        case(100_000, 20, 1000),
        case(100_000, 1, 1000),
        case(100_000, 100, 1000),
        case(100_000, 20, 100),
        case(100_000, 20, 300),
        case(100_000, 500, 10),
        case(10_000, 1000, 100),
        case(1_000, 5000, 10),
        case(1_000, 5000, 50),
    ]
}

fn measure(case: &Case) -> Result<()> {
    let workloads = case.workloads.context("no number of workloads")?;
    let dir = tempfile::tempdir()?;
    let began = std::time::Instant::now();
    let path = dir.path().display().to_string();
    let mut control = Part::start(&["control", &path, &workloads.to_string()])?;
    let url: String = control.hear()?;
    let loaded = control.ask::<Control>(&Order::Look)?;
    let took = began.elapsed().as_secs_f64();
    let mut agents = Part::start(&[
        "agents",
        &path,
        &url,
        &case.agents.to_string(),
        &(workloads + objects::services(workloads)).to_string(),
    ])?;
    let first: Agents = agents.hear()?;
    let told = control.ask::<Control>(&Order::Look)?;
    let after = control.ask::<Control>(&Order::Change { rate: case.rate, seconds: case.seconds })?;
    let since: Agents = agents.ask(&())?;
    let seconds = case.seconds as f64;
    ensure!(since.resources > 0, "no change arrived");
    println!(
        "{:>9} {:>6} {:>6.0} | {:>7.1} {:>8.1} {:>7.0} | {:>9.1} {:>9.1} {:>8.1} | {:>7.0} {:>8.0} {:>9.0} {:>8.0} {:>8.0}",
        workloads,
        case.agents,
        (after.changes - told.changes) as f64 / seconds,
        took,
        loaded.cpu,
        loaded.memory,
        first.synced,
        first.first as f64 / 1e6,
        told.cpu - loaded.cpu,
        (after.cpu - told.cpu) / seconds * 100.0,
        after.memory,
        since.since as f64 / seconds / 1e3,
        since.delay[0],
        since.delay[1],
    );
    Ok(())
}

/// This program in another role.
struct Part {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Part {
    fn start(arguments: &[&str]) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        let mut child = command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let orders = child.stdin.take().context("no input")?;
        let answers = BufReader::new(child.stdout.take().context("no output")?);
        Ok(Self { child, orders, answers })
    }

    fn hear<T: for<'de> Deserialize<'de>>(&mut self) -> Result<T> {
        let mut line = String::new();
        ensure!(self.answers.read_line(&mut line)? > 0, "a part of the benchmark ended");
        serde_json::from_str(&line).with_context(|| line)
    }

    fn ask<T: for<'de> Deserialize<'de>>(&mut self, order: &impl Serialize) -> Result<T> {
        writeln!(self.orders, "{}", serde_json::to_string(order)?)?;
        self.hear()
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Says something to the parent.
fn say(what: &impl Serialize) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", serde_json::to_string(what)?)?;
    Ok(out.flush()?)
}
