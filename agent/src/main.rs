//! `weft-agent`: the node agent, and its command line.

use clap::{Parser, Subcommand};
use std::{ffi::OsString, os::fd::AsFd, process::ExitCode, sync::Arc};
use weft_agent::{
    app,
    config::{Config, ConfigArgs},
    keeper::{self, EXIT_CONFIG, KeeperClient},
};
use weft_io::telemetry::trace::{LogFormat, LogHandle};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Weft's node agent.
#[derive(Parser)]
#[command(name = "weft-agent", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the agent. If one runs on this node already, it takes over from it.
    Run(RunArgs),
    /// The process that `run` starts and restarts.
    #[command(hide = true)]
    Worker(ConfigArgs),
}

#[derive(clap::Args)]
struct RunArgs {
    /// Keep the listeners of a worker that has lost its keeper, and is at the standard input.
    #[arg(long, hide = true)]
    adopt: bool,
    #[command(flatten)]
    config: ConfigArgs,
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Run(args) => run(args),
        Command::Worker(args) => worker(args),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("weft-agent: {error:#}");
        ExitCode::from(EXIT_CONFIG)
    })
}

/// The keeper: no thread, no runtime, no key.
fn run(args: RunArgs) -> anyhow::Result<ExitCode> {
    let config = Config::load(args.config)?;
    std::fs::create_dir_all(&config.state_dir)?;
    raise_file_limit();
    let adopt = args.adopt.then(|| std::io::stdin().as_fd().try_clone_to_owned()).transpose()?;
    let mut worker_args = vec![OsString::from("worker")];
    worker_args.extend(own_arguments());
    Ok(keeper::run(keeper::Start { door: config.keeper_socket(), worker_args, adopt })?)
}

fn worker(args: ConfigArgs) -> anyhow::Result<ExitCode> {
    let config = Config::load(args)?;
    let _log = LogHandle::install(&config.log, LogFormat::Text)?;
    let mut keeper_args = vec![OsString::from("run"), OsString::from("--adopt")];
    keeper_args.extend(own_arguments());
    let keeper = Arc::new(KeeperClient::from_stdin(keeper_args));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(app::run(config, keeper))?;
    Ok(ExitCode::SUCCESS)
}

/// What follows the subcommand: the two processes pass it on to each other.
fn own_arguments() -> impl Iterator<Item = OsString> {
    std::env::args_os().skip(2).filter(|a| a != "--adopt")
}

/// Every connection is two files or more: what is allowed is used.
fn raise_file_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
        && let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
    {
        eprintln!("weft-agent: the limit on open files stays at {soft}: {error}");
    }
}
