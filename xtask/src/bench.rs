//! `cargo xtask bench`: builds everything for release, runs `weft-bench`, and makes a table and a report of what it says.

mod report;
mod table;

use crate::{build, shell};
use anyhow::{Context, Result, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use report::Said;
use std::{
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, Command, ExitCode, Stdio},
    thread,
    time::Duration,
};
use weft_tests::interrupt;

/// What to measure.
#[derive(clap::Args)]
#[command(after_help = "\
How long: throughput, requests and latency 4 s a run; new connections 8 s a run, and across nodes one run of 60 s on each
side besides, which looks for failures and for a cliff. Memory is taken from up to 3 fresh labs (100,000 workloads: one).
All figures together take about 25 minutes with 5 runs; --quick takes 1 s, 3 s, 20 s and 2 runs, about 7 minutes.

Exit code: 0 when every figure was measured, whether its aim is met or not; 1 when one could not be (its row says why,
the others are measured all the same); 130 when interrupted, with everything cleaned up.")]
pub struct Options {
    /// Figures to measure, by name or the beginning of one (`same_node`); all of them unless given
    names: Vec<String>,
    /// How often each side runs
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Short runs: enough to see whether everything works, too few for figures that count
    #[arg(long)]
    quick: bool,
}

/// Measures, shows a table and writes `target/bench/report.json`.
pub fn run(options: &Options) -> Result<ExitCode> {
    build::binaries(true)?;
    let release = target()?.join("release");
    let mut command = Command::new(release.join("weft-bench"));
    command.arg("measure").args(&options.names).env("WEFT_BIN_DIR", &release).stdout(Stdio::piped());
    if options.quick {
        command.arg("--quick");
    } else {
        command.args(["--runs", &options.runs.to_string()]);
    }
    let mut child = command.spawn().context("cannot start weft-bench")?;
    pass_signals_on(&child)?;
    let output = child.stdout.take().context("weft-bench has no output")?;
    let mut rows = Vec::new();
    let mut progress = table::Progress::new();
    for line in BufReader::new(output).lines() {
        let line = line?;
        match serde_json::from_str(&line).with_context(|| format!("weft-bench said `{line}`"))? {
            Said::Progress(text) => progress.show(&text),
            Said::Row(row) => {
                progress.done(&table::brief(&row));
                rows.push(*row);
            }
        }
    }
    progress.clear();
    let status = child.wait()?;
    if !rows.is_empty() {
        println!("{}", table::render(&rows));
        let path = report::write(&target()?.join("bench"), &rows)?;
        println!("written to {}", path.display());
    }
    if interrupt::happened() {
        return Ok(ExitCode::from(interrupt::CODE));
    }
    ensure!(status.success(), "weft-bench ended with {status}");
    Ok(ExitCode::SUCCESS)
}

/// A signal that ends us ends `weft-bench` first, which owns the labs and takes them down.
fn pass_signals_on(child: &Child) -> Result<()> {
    /// Longer than `weft-bench` takes.
    const GRACE: Duration = Duration::from_secs(30);
    let child = Pid::from_raw(child.id().cast_signed());
    interrupt::on_signal(move || {
        // It may be on its way out already: Ctrl-C reaches it too. When it is gone, `run` comes to its end and we with it.
        let _ = kill(child, Signal::SIGTERM);
        thread::sleep(GRACE);
    })
}

/// The target folder that cargo uses here.
fn target() -> Result<PathBuf> {
    #[derive(serde::Deserialize)]
    struct Metadata {
        target_directory: PathBuf,
    }
    let metadata = shell::read(&mut shell::cargo(&["metadata", "--format-version", "1", "--no-deps"]))?;
    let metadata: Metadata = serde_json::from_str(&metadata)?;
    Ok(metadata.target_directory)
}
