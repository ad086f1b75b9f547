//! The command line: every command but `run` asks a running agent over its local socket, or looks at the machine.

mod check;
mod client;
mod command;
mod connections;
#[cfg(feature = "kube")]
mod kube;
mod output;
mod pipe;
mod show;
mod uninstall;

pub use client::CliError;
pub use command::{Cli, Command};

use crate::admin::proto::{self, Empty};
use clap::CommandFactory;
use client::Client;
use output::Output;
use std::{
    io::{self, Write},
    path::Path,
};

/// Where agents put their sockets, each in a directory of its own.
pub const SOCKETS: &str = "/run/weft";

/// Runs any command but those that are the agent itself ([`Command::Run`] and its like), which do nothing here; output goes to `out`.
pub async fn execute(cli: Cli, sockets: &Path, out: &mut impl Write) -> Result<(), CliError> {
    match cli.command {
        Command::Run(_) | Command::Worker(_) | Command::Keeper(_) => return Ok(()),
        Command::Pipe => return pipe::run(cli.socket.as_deref(), cli.node.as_deref(), sockets),
        #[cfg(feature = "kube")]
        _ if cli.kube => return kube::execute(cli, out).await,
        #[cfg(not(feature = "kube"))]
        _ if cli.kube => return Err(CliError::NoKube),
        _ => {}
    }
    let Cli { output, socket, node, command, .. } = cli;
    match command {
        Command::Check { .. } => return check::check(output, out),
        Command::Uninstall { yes, config } => return uninstall::run(yes, *config, node, out).await,
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "weft-agent", out);
            return Ok(());
        }
        _ => {}
    }
    let mut client = client::connect(socket.as_deref(), node.as_deref(), sockets).await?;
    ask(&mut client, command, output, out).await
}

async fn ask(
    client: &mut Client,
    command: Command,
    output: Output,
    out: &mut impl Write,
) -> Result<(), CliError> {
    match command {
        Command::Status => output.one(&client.get_status(Empty {}).await?.into_inner(), out),
        Command::Ready => {
            let status = client.get_status(Empty {}).await?.into_inner();
            match status.ready {
                true => Ok(writeln!(out, "ready")?),
                false => Err(CliError::NotReady(status.waiting_for)),
            }
        }
        Command::Workloads => output.list(&client.list_workloads(Empty {}).await?.into_inner().items, out),
        Command::Services => output.list(&client.list_services(Empty {}).await?.into_inner().items, out),
        Command::Policies => output.list(&client.list_policies(Empty {}).await?.into_inner().items, out),
        Command::Certificates => {
            output.list(&client.list_certificates(Empty {}).await?.into_inner().items, out)
        }
        Command::Connections(wanted) => connections::run(client, wanted, output, out).await,
        Command::Flows(wanted) => flows(client, wanted.into(), output, out).await,
        Command::Explain { from, to } => {
            let request = proto::ExplainRequest { from, to };
            output.one(&client.explain(request).await?.into_inner(), out)
        }
        Command::ConfigDump => {
            let dump: serde_json::Value =
                serde_json::from_str(&client.get_config_dump(Empty {}).await?.into_inner().json)
                    .map_err(io::Error::from)?;
            output.data(&dump, out)
        }
        Command::Log { directives } => {
            let request = proto::LogRequest { directives: directives.unwrap_or_default() };
            output.one(&client.set_log(request).await?.into_inner(), out)
        }
        Command::Bpf => output.one(&client.get_bpf(Empty {}).await?.into_inner(), out),
        // These were dealt with before there was a client.
        Command::Run(_)
        | Command::Worker(_)
        | Command::Keeper(_)
        | Command::Pipe
        | Command::Check { .. }
        | Command::Uninstall { .. }
        | Command::Completions { .. } => Ok(()),
    }
}

/// Prints flows as they come; in JSON, one object a line when following, else a list.
async fn flows(
    client: &mut Client,
    request: proto::FlowsRequest,
    output: Output,
    out: &mut impl Write,
) -> Result<(), CliError> {
    let follow = request.follow;
    let mut stream = client.watch_flows(request).await?.into_inner();
    if follow {
        while let Some(flow) = stream.message().await? {
            output.line(&flow, out)?;
            out.flush()?;
        }
        return Ok(());
    }
    let mut flows = Vec::new();
    while let Some(flow) = stream.message().await? {
        flows.push(flow);
    }
    output.list(&flows, out)
}

#[cfg(test)]
mod tests;
