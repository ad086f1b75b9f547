//! `--kube`: the agents of a cluster, asked through the Kubernetes API.
//!
//! An agent's admin interface is a Unix socket and stays one: `weft-agent pipe`, run in the agents' containers as
//! `kubectl exec` would, carries it. Who may do that is RBAC's to say (`pods/exec`).

mod agents;
mod answers;
mod check;
mod connections;
mod error;
mod explain;
mod flows;
mod netpol;
mod tunnel;

pub use error::KubeError;

use super::{
    client::CliError,
    command::{Cli, Command},
    output::Output,
};
use crate::admin::proto::{self, Empty};
use agents::{Agent, Cluster};
use answers::{each, run};
use std::io::Write;

/// Runs a command on the agents of a cluster, or on the cluster itself.
pub async fn execute(cli: Cli, out: &mut impl Write) -> Result<(), CliError> {
    let Cli { output, node, context, kubeconfig, kube_namespace, command, .. } = cli;
    if let Command::Completions { .. } = command {
        return Err(KubeError::Local("completions").into());
    }
    let cluster = Cluster::connect(kubeconfig, context, kube_namespace).await?;
    if let Command::Check { installed } = command {
        return check::run(&cluster, installed, output, out).await;
    }
    if let Command::Explain { from, to } = command {
        return explain::run(&cluster, node, proto::ExplainRequest { from, to }, output, out).await;
    }
    let agents = cluster.agents(node.as_deref()).await?;
    ask(&cluster, &agents, command, output, out).await
}

async fn ask(
    cluster: &Cluster,
    agents: &[Agent],
    command: Command,
    output: Output,
    out: &mut impl Write,
) -> Result<(), CliError> {
    /// The answers to a call without arguments.
    macro_rules! all {
        ($call:ident) => {
            each(cluster, agents, async |mut agent| Ok(agent.$call(Empty {}).await?.into_inner())).await
        };
    }
    match command {
        Command::Status => all!(get_status).status(output, out),
        Command::Ready => all!(get_status).ready(out),
        Command::Workloads => all!(list_workloads).map(|list| list.items).list(output, out),
        Command::Services => all!(list_services).map(|list| list.items).list(output, out),
        Command::Policies => all!(list_policies).map(|list| list.items).list(output, out),
        Command::Certificates => all!(list_certificates).map(|list| list.items).list(output, out),
        Command::Connections(wanted) => connections::run(cluster, agents, wanted, output, out).await,
        Command::Flows(wanted) => flows::show(cluster, agents, wanted.into(), output, out).await,
        Command::Bpf => all!(get_bpf).one(output, out),
        Command::Log { directives } => {
            let wanted = proto::LogRequest { directives: directives.unwrap_or_default() };
            let set = each(cluster, agents, async |mut agent| {
                Ok(agent.set_log(wanted.clone()).await?.into_inner())
            });
            set.await.one(output, out)
        }
        Command::ConfigDump => {
            let dumps = all!(get_config_dump);
            dumps
                .map(|dump| serde_json::from_str(&dump.json).unwrap_or(serde_json::Value::Null))
                .data(output, out)
        }
        Command::Uninstall { yes: false, .. } => Err(CliError::NotMeant(format!("{} nodes", agents.len()))),
        Command::Uninstall { yes: true, .. } => uninstall(cluster, agents, output, out).await,
        // The agent itself, and what was dealt with before.
        Command::Run(_) | Command::Worker(_) | Command::Keeper(_) | Command::Pipe => Ok(()),
        Command::Check { .. } | Command::Completions { .. } | Command::Explain { .. } => Ok(()),
    }
}

async fn uninstall(
    cluster: &Cluster,
    agents: &[Agent],
    output: Output,
    out: &mut impl Write,
) -> Result<(), CliError> {
    let done = run(cluster, agents, &["weft-agent", "uninstall", "--yes"]).await;
    if !matches!(output, Output::Table) {
        return done.data(output, out);
    }
    for (node, said) in &done.nodes {
        for line in said.lines() {
            writeln!(out, "{node}: {line}")?;
        }
    }
    done.finish()
}
