//! The demo: the bookshop on two nodes, first without a mesh and then with one, and what each claim about the mesh looks
//! like in real traffic.

mod calls;
mod claims;
mod cost;
mod down;
mod explicit;
mod interrupt;
mod looks;
mod report;
mod stage;
mod story;
mod tables;

use crate::{build, shell};
use anyhow::{Context, Result, ensure};
use clap::{Args, Subcommand, ValueEnum};
use nix::unistd::geteuid;
use report::Report;
use std::{env, path::PathBuf, process::ExitCode};
use tables::Teller;
use weft_tests::{binaries, kernel, run, sweep};

/// The demo's run: one on a machine, so that `demo down` finds it.
const RUN: &str = "demo";

#[derive(Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:\n  \
        cargo xtask demo                 run it and clean up\n  \
        cargo xtask demo --keep          leave the mesh running, to look around in it\n  \
        cargo xtask demo down            remove what --keep left\n  \
        cargo xtask demo --output json   the same as data\n  \
        cargo xtask demo --explicit      without capture: no root, no BPF\n\n\
        Without root or BPF it says what is missing and points the applications at explicit listeners of the agents\n\
        (HTTP CONNECT and SOCKS5) in place of capture. What only capture shows is then listed as not shown.\n\n\
        Exit code: 0 when every claim that can be shown here was proven, 1 when one was not or the demo failed,\n\
        130 when it was interrupted."
)]
pub struct Options {
    #[command(subcommand)]
    what: Option<What>,
    /// Leave everything running at the end (without capture: until Ctrl-C)
    #[arg(long)]
    keep: bool,
    /// How to tell it
    #[arg(long, value_enum, default_value = "text")]
    output: Output,
    /// Explicit listeners in place of capture, also where capture is possible
    #[arg(long)]
    explicit: bool,
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
    // Root installs what is missing before anything is called missing; others cannot.
    let explicit = options.explicit || !geteuid().is_root();
    let name = format!("{}{RUN}", run::PREFIX);
    ensure!(
        explicit || !sweep::is_kept(&name),
        "a demo is kept on this machine: look around in it, or remove it with `cargo xtask demo down`"
    );
    prepare(&teller, options.debug, explicit)?;
    let missing = kernel::missing();
    if !explicit && missing.is_empty() {
        return finish(&teller, &story::tell(&teller, options.keep)?);
    }
    let (report, mesh) = explicit::tell(&teller, missing)?;
    let code = finish(&teller, &report)?;
    if options.keep {
        explicit::stay(&teller, &mesh)?;
    }
    Ok(code)
}

/// Installs and builds, unless WEFT_BIN_DIR says that this was done; what cargo and others print goes to standard error
/// when standard output is for data.
fn prepare(teller: &Teller, debug: bool, unprivileged: bool) -> Result<()> {
    if let Some(directory) = env::var_os("WEFT_BIN_DIR") {
        teller.chapter(
            "Preparing",
            &format!("the binaries are those in {}", PathBuf::from(directory).display()),
        );
        return binaries::find("weft-app").map(drop);
    }
    teller.chapter("Preparing", "what is missing is installed, then everything is built");
    if teller.is_data() {
        let mut again = std::process::Command::new(env::current_exe()?);
        let mut args = vec!["build"];
        args.extend((!debug).then_some("--release"));
        args.extend(unprivileged.then_some("--unprivileged"));
        shell::run_to_stderr(again.args(args))?;
    } else {
        build::run(&build::Options { release: !debug, unprivileged })?;
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
