//! `connections` of a cluster.

use super::{
    agents::{Agent, Cluster},
    answers::each,
    error::KubeError,
};
use crate::{
    admin::proto::{CloseRequest, Empty, OlderRequest},
    cli::{client::CliError, command::ConnectionsArgs, output::Output},
};
use std::io::Write;

/// Lists, closes or resets connections; a pod is looked for on every node.
pub async fn run(
    cluster: &Cluster,
    agents: &[Agent],
    wanted: ConnectionsArgs,
    output: Output,
    out: &mut impl Write,
) -> Result<(), CliError> {
    if let Some(id) = wanted.close {
        if agents.len() != 1 {
            return Err(KubeError::OneNode("connections --close").into());
        }
        let close = CloseRequest { id };
        let done =
            each(cluster, agents, async |mut agent| Ok(agent.close_connection(close).await?.into_inner()));
        return done.await.finish();
    }
    if !wanted.older {
        let live =
            each(cluster, agents, async |mut agent| Ok(agent.list_connections(Empty {}).await?.into_inner()));
        return live.await.map(|list| list.items).list(output, out);
    }
    let pod = wanted.pod.unwrap_or_default();
    let request = OlderRequest { pod: pod.clone() };
    if wanted.reset && wanted.yes {
        let done = each(cluster, agents, async |mut agent| {
            Ok(agent.reset_older(request.clone()).await?.into_inner())
        });
        let done = done.await;
        let (found, count) =
            done.nodes.values().fold((false, 0), |(f, n), one| (f || one.found, n + one.count));
        if found {
            writeln!(out, "{count} connections of {pod} are reset")?;
        }
        done.finish()?;
        return if found { Ok(()) } else { Err(CliError::NoPod(pod, "any node that was asked")) };
    }
    let older =
        each(cluster, agents, async |mut agent| Ok(agent.list_older(request.clone()).await?.into_inner()));
    let older = older.await.map(|list| list.items);
    if wanted.reset {
        let count = older.nodes.values().map(Vec::len).sum();
        older.finish()?;
        return Err(CliError::NotMeantReset(count, pod));
    }
    older.list(output, out)
}
