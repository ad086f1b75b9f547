//! The demo: the bookshop on two nodes, first without a mesh and then with one, and what each claim about the mesh looks
//! like in real traffic.

mod calls;
mod claims;
mod cost;
mod down;
mod interrupt;
mod looks;
mod report;
mod stage;
mod story;
mod tables;

use crate::{build, setup, shell};
use anyhow::{Context, Result};
use clap::{Args, Subcommand, ValueEnum};
use report::Report;
use std::{env, path::PathBuf, process::ExitCode};
use tables::Teller;
use weft_tests::{binaries, kernel};

/// The demo's run: one on a machine, so that `demo down` finds it.
const RUN: &str = "demo";

#[derive(Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:\n  \
        cargo xtask demo                 run it and clean up\n  \
        cargo xtask demo --keep          leave the mesh running, to look around in it\n  \
        cargo xtask demo down            remove what --keep left\n  \
        cargo xtask demo --output json   the same as data"
)]
pub struct Options {
    #[command(subcommand)]
    what: Option<What>,
    /// Leave everything running at the end
    #[arg(long)]
    keep: bool,
    /// How to tell it
    #[arg(long, value_enum, default_value = "text")]
    output: Output,
    /// Build without optimisation: quicker to start, slower to run
    #[arg(long)]
    debug: bool,
}

#[derive(Subcommand)]
enum What {
    /// Remove every trace of a demo that was kept
    Down,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
}

pub fn run(options: &Options) -> Result<ExitCode> {
    if let Some(What::Down) = options.what {
        down::run()?;
        return Ok(ExitCode::SUCCESS);
    }
    let teller = Teller::new(options.output == Output::Json);
    prepare(&teller, options.debug)?;
    let missing = kernel::namespaces().and_then(|()| kernel::bpf()).err();
    if let Some(missing) = missing {
        anyhow::bail!("the demo needs root and BPF, and here is what is missing: {missing:#}");
    }
    let report = story::tell(&teller, options.keep)?;
    finish(&teller, &report)
}

/// Installs and builds; what cargo and others print goes to standard error when standard output is for data.
fn prepare(teller: &Teller, debug: bool) -> Result<()> {
    teller.chapter("Preparing", "what is missing is installed, then everything is built");
    if teller.is_data() {
        let mut again = std::process::Command::new(env::current_exe()?);
        let mut args = vec!["build"];
        args.extend((!debug).then_some("--release"));
        shell::run_to_stderr(again.args(args))?;
    } else {
        setup::run()?;
        build::binaries(!debug)?;
    }
    let profile = if debug { "debug" } else { "release" };
    let target =
        env::var_os("CARGO_TARGET_DIR").map_or_else(|| shell::workspace().join("target"), PathBuf::from);
    binaries::choose(target.join(profile));
    binaries::find("weft-app").map(drop).context("the build went well, and yet")
}

fn finish(teller: &Teller, report: &Report) -> Result<ExitCode> {
    if teller.is_data() {
        println!("{}", serde_json::to_string_pretty(report)?);
    } else {
        teller.claims(&report.claims);
    }
    Ok(if report.claims.all_proven() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
