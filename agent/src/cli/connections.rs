//! `connections`: what lives, and what is older than the mesh.

use super::{
    client::{CliError, Client},
    command::ConnectionsArgs,
    output::Output,
};
use crate::admin::proto::{CloseRequest, Empty, OlderRequest};
use std::io::Write;

/// Lists, closes or resets connections of one agent.
pub async fn run(
    client: &mut Client,
    wanted: ConnectionsArgs,
    output: Output,
    out: &mut impl Write,
) -> Result<(), CliError> {
    if let Some(id) = wanted.close {
        client.close_connection(CloseRequest { id }).await?;
        return Ok(());
    }
    if !wanted.older {
        return output.list(&client.list_connections(Empty {}).await?.into_inner().items, out);
    }
    let pod = wanted.pod.unwrap_or_default();
    let request = OlderRequest { pod: pod.clone() };
    if !wanted.reset {
        return output.list(&client.list_older(request).await?.into_inner().items, out);
    }
    if !wanted.yes {
        let count = client.list_older(request).await?.into_inner().items.len();
        return Err(CliError::NotMeantReset(count, pod));
    }
    let done = client.reset_older(request).await?.into_inner();
    match done.found {
        true => Ok(writeln!(out, "{} connections of {pod} are reset", done.count)?),
        false => Err(CliError::NoPod(pod, "this node")),
    }
}
