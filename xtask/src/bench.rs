//! `cargo xtask bench`: builds everything for release, runs `weft-bench`, and makes a table and a report of what it says.

mod report;
mod table;

use crate::{build, shell};
use anyhow::{Context, Result, ensure};
use report::Said;
use std::{
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Command, Stdio},
};

/// What to measure.
#[derive(clap::Args)]
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
pub fn run(options: &Options) -> Result<()> {
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
    let output = child.stdout.take().context("weft-bench has no output")?;
    let mut rows = Vec::new();
    let mut progress = table::Progress::new();
    for line in BufReader::new(output).lines() {
        let line = line?;
        match serde_json::from_str(&line).with_context(|| format!("weft-bench said `{line}`"))? {
            Said::Progress(text) => progress.show(&text),
            Said::Row(row) => {
                progress.done(&table::brief(&row));
                rows.push(row);
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
    ensure!(status.success(), "weft-bench ended with {status}");
    Ok(())
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
