//! The command line.

use crate::{app, check, config::Config};
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::{net::SocketAddr, path::PathBuf, process::ExitCode};
use tracing_subscriber::EnvFilter;
use weft_io::lifecycle::shutdown::Shutdown;

const EXAMPLES: &str = "\
Examples:
  Validate manifests, without running anything:
    weft-control check examples/bookshop

  Run on a directory of manifests, on ports that the system picks:
    weft-control run --manifests examples/bookshop --state /var/lib/weft \\
      --listen 127.0.0.1:0 --monitoring 127.0.0.1:0 --bound /run/weft/control.json

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

/// A form of output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Table,
    /// One document.
    Json,
    /// One document.
    Yaml,
}

/// What `run` is told; each flag wins over the same key in the configuration file.
#[derive(Clone, Debug, Default, Args)]
pub struct RunArgs {
    /// The configuration file, YAML.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The directory of manifests; it is read again when it changes.
    #[arg(long, value_name = "DIR")]
    pub manifests: Option<PathBuf>,
    /// The directory of what must outlive the process: the authority, the tokens.
    #[arg(long, value_name = "DIR")]
    pub state: Option<PathBuf>,
    /// The directory of nodes' tokens [default: STATE/tokens].
    #[arg(long, value_name = "DIR")]
    pub tokens: Option<PathBuf>,
    /// The directory of the certificate authority, with Istio's file names (`ca-cert.pem`, `ca-key.pem`,
    /// `root-cert.pem`, `cert-chain.pem`); one is made where it is empty [default: STATE/ca].
    #[arg(long, value_name = "DIR")]
    pub ca: Option<PathBuf>,
    /// Where nodes connect (`[::]:15012` unless told).
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<SocketAddr>,
    /// Where /metrics, /healthz/ready and /debug are (`[::]:15014` unless told).
    #[arg(long, value_name = "ADDRESS")]
    pub monitoring: Option<SocketAddr>,
    /// One more name that the certificate of the port carries.
    #[arg(long = "name", value_name = "NAME")]
    pub names: Vec<String>,
    /// Write the bound addresses to this file, as JSON, once they answer.
    #[arg(long, value_name = "FILE")]
    pub bound: Option<PathBuf>,
    /// Write the root certificates to this file, for the nodes.
    #[arg(long, value_name = "FILE")]
    pub root: Option<PathBuf>,
    /// The trust domain of every identity [default: cluster.local].
    #[arg(long, value_name = "NAME")]
    pub trust_domain: Option<String>,
    /// Policies in this namespace hold for the whole mesh [default: weft-system].
    #[arg(long, value_name = "NAME")]
    pub root_namespace: Option<String>,
    /// How long workloads' certificates live, like 30s or 24h [default: 24h].
    #[arg(long, value_name = "DURATION")]
    pub leaf_lifetime: Option<String>,
}

/// Runs the command line; the caller exits with the answer.
pub fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Run(args) => run(&args),
        Command::Check { dir, output, root_namespace } => check::run(dir, output, root_namespace),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("weft-control: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &RunArgs) -> anyhow::Result<ExitCode> {
    let filter = EnvFilter::try_from_env("WEFT_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let config = Config::load(args)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut shutdown = Shutdown::listen()?;
        let running = app::start(config).await?;
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
