//! Measures, and writes what it finds as one JSON object a line; `cargo xtask bench` makes a table of it.
#![forbid(unsafe_code)]

use clap::Parser;
use std::process::ExitCode;
use weft_tests::{
    bench::{
        self, probe, relay,
        session::{Extent, Session},
    },
    interrupt,
};

#[derive(Parser)]
enum Command {
    /// Measure, and tell one figure a line
    Measure(Options),
    /// One of the TLS relays that the mesh is compared with
    Relay(relay::Options),
    /// A client that says when a connection is refused or allowed again
    Probe(probe::Options),
}

/// Measure the mesh against the same work without one.
#[derive(clap::Args)]
struct Options {
    /// Figures to measure, by name or the beginning of one (all of them unless given).
    names: Vec<String>,
    /// How often each side runs.
    #[arg(long)]
    runs: Option<usize>,
    /// Short runs: enough to see whether everything works, too few for figures that count.
    #[arg(long)]
    quick: bool,
}

fn main() -> anyhow::Result<ExitCode> {
    match Command::parse() {
        Command::Measure(options) => return measure(&options),
        Command::Relay(options) => relay::run(&options)?,
        Command::Probe(options) => probe::run(options)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn measure(options: &Options) -> anyhow::Result<ExitCode> {
    interrupt::watch_own_runs()?;
    let mut extent = if options.quick { Extent::QUICK } else { Extent::FULL };
    extent.runs = options.runs.unwrap_or(extent.runs);
    let measured = bench::run(&mut Session::new(&options.names, extent)?);
    // All that we made is gone by now, so there is nothing to wait for.
    if interrupt::happened() {
        return Ok(ExitCode::from(interrupt::CODE));
    }
    measured.map(|()| ExitCode::SUCCESS)
}
