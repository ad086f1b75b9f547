//! The fuzz targets of tests/fuzz, each for a short while.

mod build;
mod session;

use crate::shell;
use anyhow::{Context, Result, ensure};
use clap::Args;
use comfy_table::{Table, presets};
use session::{Report, Session};
use std::{
    fs,
    num::NonZeroUsize,
    path::PathBuf,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

/// What a target's program is called: its name with this before it.
const PREFIX: &str = "fuzz-";

#[derive(Args)]
#[command(after_help = "What a target finds stays in target/fuzz/corpus, and the next run begins there.")]
pub struct Options {
    /// Only these targets; all of them when none is named
    #[arg(value_name = "TARGET")]
    targets: Vec<String>,
    /// How long each target runs
    #[arg(long, value_name = "N", default_value_t = 10)]
    seconds: u64,
    /// How many targets run at once; one a core when not given
    #[arg(long, value_name = "N")]
    jobs: Option<NonZeroUsize>,
    /// Where libFuzzer's random numbers begin, to go the same way again; 0 takes another way each time
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u32,
    /// List the targets and do nothing else
    #[arg(long)]
    list: bool,
}

impl Options {
    /// What `cargo xtask test` runs: the same way each time, so that a change is not blamed for the luck of a run.
    pub fn short() -> Self {
        Self { targets: Vec::new(), seconds: 5, jobs: None, seed: 1, list: false }
    }
}

/// Where the targets are.
fn home() -> PathBuf {
    shell::workspace().join("tests/fuzz")
}

/// Where corpora, artefacts and logs are kept.
fn work() -> PathBuf {
    build::target_directory().join("fuzz")
}

/// Builds the targets, runs them, and tells what became of them.
///
/// # Errors
/// When one of them fails, or cannot be built or run.
pub fn run(options: &Options) -> Result<()> {
    let all = targets()?;
    if options.list {
        all.iter().for_each(|name| println!("{name}"));
        return Ok(());
    }
    for name in &options.targets {
        ensure!(all.contains(name), "there is no target `{name}`; there are {}", all.join(", "));
    }
    let chosen = if options.targets.is_empty() { all } else { options.targets.clone() };
    build::targets(&chosen)?;
    let cores = thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let jobs = options.jobs.unwrap_or(cores).get().min(chosen.len());
    println!("{} targets, {} s each, {jobs} at once", chosen.len(), options.seconds);
    let reports = in_parallel(&chosen, jobs, Duration::from_secs(options.seconds), options.seed)?;
    println!("\n{}", table(&reports));
    let failed: Vec<_> = reports.iter().filter(|report| report.failure.is_some()).collect();
    for report in &failed {
        print!("{}", report.explain());
    }
    ensure!(failed.is_empty(), "{} of {} targets failed", failed.len(), reports.len());
    Ok(())
}

/// The names of the targets, from their manifest.
fn targets() -> Result<Vec<String>> {
    let path = home().join("Cargo.toml");
    let manifest: toml::Table = fs::read_to_string(&path)?.parse()?;
    let programs = manifest.get("bin").and_then(toml::Value::as_array).context("no [[bin]] in tests/fuzz")?;
    let names = programs.iter().filter_map(|program| program.get("name")?.as_str()?.strip_prefix(PREFIX));
    Ok(names.map(str::to_owned).collect())
}

fn in_parallel(names: &[String], jobs: usize, time: Duration, seed: u32) -> Result<Vec<Report>> {
    let next = AtomicUsize::new(0);
    let reports = Mutex::new(Vec::new());
    let work = || -> Result<()> {
        while let Some(name) = names.get(next.fetch_add(1, Relaxed)) {
            let report = Session::new(name)?.run(time, seed)?;
            println!("{name}: {}", report.summary());
            reports.lock().unwrap_or_else(PoisonError::into_inner).push(report);
        }
        Ok(())
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..jobs).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().unwrap_or_else(|_| anyhow::bail!("panicked")))
    })?;
    let mut reports = reports.into_inner().unwrap_or_else(PoisonError::into_inner);
    reports.sort_by_key(|report| names.iter().position(|name| *name == report.target));
    Ok(reports)
}

fn table(reports: &[Report]) -> Table {
    let mut table = Table::new();
    let heads = ["target", "runs", "runs/s", "edges", "corpus", "result"];
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY).set_header(heads);
    for report in reports {
        let counts = [report.runs, report.speed, report.edges, report.corpus].map(|n| n.to_string());
        let result = report.failure.as_deref().unwrap_or("ok").to_owned();
        table.add_row([report.target.clone()].into_iter().chain(counts).chain([result]));
    }
    table
}
