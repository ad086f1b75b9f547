//! Every binary.

use crate::{setup, shell};
use anyhow::Result;
use clap::Args;

#[derive(Args)]
pub struct Options {
    /// Optimise
    #[arg(long)]
    pub release: bool,
    /// Install nothing that takes root
    #[arg(long)]
    pub unprivileged: bool,
}

pub fn run(options: &Options) -> Result<()> {
    if options.unprivileged {
        setup::toolchain()?
    } else {
        setup::run()?
    }
    binaries(options.release)
}

/// Builds the binaries of the workspace.
pub fn binaries(release: bool) -> Result<()> {
    // `--locked` everywhere: a task never changes which versions are used.
    let mut args = vec!["build", "--locked", "--workspace", "--bins"];
    if release {
        args.push("--release");
    }
    shell::run(&mut shell::cargo(&args))
}
