//! `flows` of many nodes: what was, in the order of time; what happens, as it comes.

use super::{
    agents::{Agent, Cluster},
    answers::{Answers, each},
    error::KubeError,
    tunnel::Tunnel,
};
use crate::{
    admin::proto::{Flow, FlowsRequest},
    cli::{
        client::CliError,
        output::{Output, Row},
    },
};
use futures::{StreamExt, stream};
use serde::Serialize;
use std::{collections::BTreeMap, io::Write};

/// A flow, and which agent tells of it.
#[derive(Serialize)]
struct Told {
    node: String,
    #[serde(flatten)]
    flow: Flow,
}

impl Row for Told {
    const HEAD: &'static [&'static str] =
        &["NODE", "TIME", "EVENT", "VERDICT", "PATH", "FROM", "TO", "CLIENT", "DETAIL"];
    const EMPTY: &'static str = Flow::EMPTY;

    fn cells(&self) -> Vec<String> {
        std::iter::once(self.node.clone()).chain(self.flow.cells()).collect()
    }
}

/// Prints the flows of `agents`.
pub async fn show(
    cluster: &Cluster,
    agents: &[Agent],
    wanted: FlowsRequest,
    output: Output,
    out: &mut impl Write,
) -> Result<(), CliError> {
    if wanted.follow {
        return follow(cluster, agents, wanted, output, out).await;
    }
    let answers = each(cluster, agents, async |mut agent| {
        let (mut flows, mut stream) = (Vec::new(), agent.watch_flows(wanted.clone()).await?.into_inner());
        while let Some(flow) = stream.message().await? {
            flows.push(flow);
        }
        Ok(flows)
    });
    let Answers { nodes, errors } = answers.await;
    let told = nodes
        .into_iter()
        .flat_map(|(node, flows)| flows.into_iter().map(move |flow| Told { node: node.clone(), flow }));
    let mut told: Vec<_> = told.collect();
    // RFC 3339 in UTC: the order of the letters is that of time.
    told.sort_by(|a, b| a.flow.time.cmp(&b.flow.time));
    output.list(&told, out)?;
    Answers::<()> { nodes: BTreeMap::new(), errors }.finish()
}

/// Goes on until no agent is left to tell anything.
async fn follow(
    cluster: &Cluster,
    agents: &[Agent],
    wanted: FlowsRequest,
    output: Output,
    out: &mut impl Write,
) -> Result<(), CliError> {
    let (mut streams, mut failed) = (Vec::new(), Vec::new());
    for agent in agents {
        let opened = match &agent.problem {
            Some(problem) => Err(problem.clone()),
            None => watch(cluster, agent, &wanted).await,
        };
        match opened {
            Ok((tunnel, flows)) => {
                let node = agent.node.clone();
                let flows = flows.map(move |flow| {
                    // It is needed for as long as its stream is.
                    let _open = &tunnel;
                    (node.clone(), flow)
                });
                streams.push(flows.boxed());
            }
            Err(why) => {
                eprintln!("weft-agent: {}: {why}", agent.node);
                failed.push((agent.node.clone(), why));
            }
        }
    }
    let mut all = stream::select_all(streams);
    while let Some((node, flow)) = all.next().await {
        match flow {
            Ok(flow) => {
                output.line(&Told { node, flow }, out)?;
                out.flush()?;
            }
            Err(status) => {
                eprintln!("weft-agent: {node}: {}", status.message());
                failed.push((node, status.message().to_owned()));
            }
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(KubeError::Nodes(failed).into()) }
}

async fn watch(
    cluster: &Cluster,
    agent: &Agent,
    wanted: &FlowsRequest,
) -> Result<(Tunnel, tonic::Streaming<Flow>), String> {
    let mut tunnel = Tunnel::open(cluster, &agent.pod).await?;
    match tunnel.client.watch_flows(wanted.clone()).await {
        Ok(flows) => Ok((tunnel, flows.into_inner())),
        Err(status) => Err(tunnel.why(&status).await),
    }
}
