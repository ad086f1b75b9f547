//! Everything that must hold before a change is merged.

use crate::{
    build, e2e, fuzz, licences, setup, shell,
    steps::{Outcome, Steps},
};
use anyhow::Result;
use clap::Args;
use std::process::ExitCode;
use weft_tests::kernel;

#[derive(Args)]
#[command(after_help = "Steps: setup, format, clippy, build, test, e2e, fuzz, doc, licences")]
pub struct Options {
    /// Take only these steps
    #[arg(long, value_name = "STEP")]
    only: Vec<String>,
}

pub fn run(options: &Options) -> Result<ExitCode> {
    let mut steps = Steps::only(&options.only);
    steps.take("setup", || done(setup::run()));
    steps.take("format", || cargo(&["fmt", "--all", "--check"]));
    steps.take("clippy", || {
        let clippy = |targets: &[&str]| {
            let args = [&["clippy", "--locked", "--workspace"], targets, &["--", "-D", "warnings"]].concat();
            cargo(&args)
        };
        clippy(&["--all-targets"])?;
        // What `cargo test` leaves to `cargo xtask e2e` is not among all targets.
        clippy(&["--test", "control", "--test", "e2e"])
    });
    // Scenarios start the binaries themselves.
    steps.take("build", || done(build::binaries(false)));
    steps.take("test", tests);
    steps.take("e2e", in_a_cluster);
    steps.take("fuzz", || done(fuzz::run(&fuzz::Options::short())));
    steps.take("doc", || {
        let mut doc = shell::cargo(&["doc", "--locked", "--workspace", "--no-deps"]);
        done(shell::run(doc.env("RUSTDOCFLAGS", "-D warnings")))
    });
    steps.take("licences", || done(licences::run()));
    Ok(steps.finish())
}

fn cargo(args: &[&str]) -> Result<Outcome> {
    done(shell::run(&mut shell::cargo(args)))
}

fn done(result: Result<()>) -> Result<Outcome> {
    result.map(|()| Outcome::Passed)
}

/// Unit tests, golden files and scenarios; none may be skipped where the kernel is there.
fn tests() -> Result<Outcome> {
    let mut test = shell::cargo(&["test", "--locked", "--workspace", "--no-fail-fast"]);
    let missing = kernel::namespaces().and_then(|()| kernel::bpf()).err();
    if missing.is_none() {
        test.env("WEFT_REQUIRE_KERNEL", "1");
    }
    shell::run(&mut test)?;
    Ok(match missing {
        None => Outcome::Passed,
        Some(missing) => Outcome::Partly(format!("no scenarios on the kernel: {missing:#}")),
    })
}

/// The mesh in a real Kubernetes, which must be there wherever the kernel is.
fn in_a_cluster() -> Result<Outcome> {
    if let Err(missing) = kernel::namespaces().and_then(|()| kernel::bpf()) {
        return Ok(Outcome::Partly(format!("no cluster: {missing:#}")));
    }
    e2e::run(&e2e::Options::default()).and(Ok(Outcome::Passed))
}
