//! `weft-agent`: the node agent, and its command line.

mod allocator;

use anyhow::Context;
use clap::Parser;
use std::{
    ffi::OsString,
    fs::DirBuilder,
    io,
    os::{fd::AsFd, unix::fs::DirBuilderExt},
    path::Path,
    process::ExitCode,
    sync::Arc,
};
use weft_agent::{
    app,
    cli::{self, Cli, Command},
    config::{Config, ConfigArgs, ConfigError},
    keeper::{self, EXIT_CONFIG, EXIT_FAILED, KeeperClient},
};
use weft_io::{
    telemetry::trace::{LogFormat, LogHandle},
    told,
};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match cli.command {
        Command::Run(args) => keep(*args, false),
        Command::Keeper(args) => keep(*args, true),
        Command::Worker(args) => work(*args),
        _ => ask(cli),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("weft-agent: {}", told::whole(error.as_ref()));
        ExitCode::from(if error.is::<ConfigError>() { EXIT_CONFIG } else { EXIT_FAILED })
    })
}

/// The keeper: no thread, no runtime, nothing that it reads of what it keeps.
fn keep(args: ConfigArgs, adopt: bool) -> anyhow::Result<ExitCode> {
    let config = Config::load(args)?;
    // Nobody else has business there: the sockets in it give the pods' listeners away.
    let made = DirBuilder::new().recursive(true).mode(0o700).create(&config.state_dir);
    made.with_context(|| format!("cannot make the directory {}", config.state_dir.display()))?;
    raise_file_limit();
    let adopt = adopt.then(|| io::stdin().as_fd().try_clone_to_owned()).transpose()?;
    let door = config.keeper_socket();
    Ok(keeper::run(keeper::Start { door, worker_args: own_arguments("worker"), adopt, stay: config.stay })?)
}

/// The worker: everything else.
fn work(args: ConfigArgs) -> anyhow::Result<ExitCode> {
    let config = Config::load(args)?;
    let log = LogHandle::install(&config.log, LogFormat::Text)?;
    let keeper = Arc::new(KeeperClient::from_stdin(own_arguments("keeper")));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(app::run(config, log, keeper))?;
    Ok(ExitCode::SUCCESS)
}

/// The command line.
fn ask(cli: Cli) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match runtime.block_on(cli::execute(cli, Path::new(cli::SOCKETS), &mut io::stdout().lock())) {
        Err(error) if !error.is_broken_pipe() => Err(error.into()),
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// This process's arguments with `command` in the place of its own: keeper and worker pass them on to each other.
fn own_arguments(command: &str) -> Vec<OsString> {
    let mut arguments: Vec<_> = std::env::args_os().skip(1).collect();
    if let Some(own) = arguments.iter_mut().find(|a| *a == "run" || *a == "worker" || *a == "keeper") {
        *own = command.into();
    }
    arguments
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
