//! The command line.

use crate::{
    app,
    args::{Output, RunArgs},
    check,
    config::Config,
};
use clap::{Parser, Subcommand};
use std::{path::PathBuf, process::ExitCode};
use tracing_subscriber::EnvFilter;
use weft_io::{lifecycle::shutdown::Shutdown, told};

/// What is logged unless told: the Kubernetes client's errors are told here, with what they mean.
const LOGGED: &str = "info,kube_client=off";

const EXAMPLES: &str = "\
Examples:
  Validate manifests, without running anything:
    weft-control check examples/bookshop

  Run on a directory of manifests, on ports that the system picks:
    weft-control run --manifests examples/bookshop --state /var/lib/weft \\
      --listen 127.0.0.1:0 --monitoring 127.0.0.1:0 --bound /run/weft/control.json

  Run in a cluster, on its objects:
    weft-control run --kube

  Let a node in: its token is a file named after it.
    head -c 32 /dev/urandom | base64 > /var/lib/weft/tokens/node-1
";

/// Weft's control plane.
#[derive(Debug, Parser)]
#[command(name = "weft-control", version, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve nodes.
    Run(Box<RunArgs>),
    /// Replace the root of control's authority, without an outage: the new root is announced at once; it signs when nobody is left
    /// who was not told of it, and the old one is dropped when nobody is left who needs it. The control planes that run take
    /// these steps by themselves.
    RotateRoot(Box<RunArgs>),
    /// Validate a directory of manifests; exits with 1 where something in it is not in force.
    Check {
        /// The directory.
        dir: PathBuf,
        /// How to print what is found.
        #[arg(long, short, value_enum, default_value_t = Output::Table)]
        output: Output,
        /// Policies in this namespace hold for the whole mesh.
        #[arg(long, value_name = "NAME")]
        root_namespace: Option<String>,
    },
}

/// Runs the command line; the caller exits with the answer.
pub fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Run(args) => run(&args),
        Command::RotateRoot(args) => rotate_root(&args),
        Command::Check { dir, output, root_namespace } => check::run(dir, output, root_namespace),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("weft-control: {}", told::whole(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

fn run(args: &RunArgs) -> anyhow::Result<ExitCode> {
    let filter = EnvFilter::try_from_env("WEFT_LOG").unwrap_or_else(|_| EnvFilter::new(LOGGED));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let config = Config::load(args)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut shutdown = Shutdown::listen()?;
        let running = tokio::select! {
            running = app::start(config) => running?,
            cause = shutdown.requested() => {
                tracing::info!(%cause, "ended before it was ready");
                return Ok(ExitCode::SUCCESS);
            }
        };
        println!("discovery {}", running.bound.discovery);
        println!("monitoring {}", running.bound.monitoring);
        tokio::select! {
            cause = shutdown.requested() => tracing::info!(%cause, "draining"),
            () = running.ended() => anyhow::bail!("a part of the control plane ended by itself; the log says which"),
        }
        running.stop().await;
        Ok(ExitCode::SUCCESS)
    })
}

fn rotate_root(args: &RunArgs) -> anyhow::Result<ExitCode> {
    let config = Config::load(args)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(app::rotate_root(&config))?;
    let overlap = config.lifetimes.overlap.as_secs();
    println!(
        "The new root is announced. It signs in {overlap} s, and the old one is dropped {overlap} s after that."
    );
    Ok(ExitCode::SUCCESS)
}
