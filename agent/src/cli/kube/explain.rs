//! `explain` in a cluster: what the agent of the client's node says, and what NetworkPolicies say of it.

use super::{
    agents::Cluster,
    answers::{Answers, each},
    error::KubeError,
    netpol::{self, Attempt, Side, TUNNEL, Verdict},
};
use crate::{
    admin::proto::{ExplainRequest, Explanation},
    cli::{client::CliError, output::Output, show::Show},
};
use k8s_openapi::api::{
    core::v1::{Namespace, Pod},
    networking::v1::NetworkPolicy,
};
use kube::{Api, api::ListParams};
use serde::Serialize;
use std::{
    collections::BTreeMap,
    io::Write,
    net::{IpAddr, SocketAddr},
};

/// The mesh's and the CNI's part.
#[derive(Serialize)]
struct Explained {
    #[serde(flatten)]
    mesh: Explanation,
    /// What NetworkPolicies say; nothing where none holds.
    network_policies: Vec<Verdict>,
    /// Why they could not be asked.
    #[serde(skip_serializing_if = "String::is_empty")]
    network_policies_error: String,
}

impl Show for Explained {
    fn show(&self) -> String {
        let mut text = self.mesh.show();
        text.push('\n');
        match (self.network_policies_error.as_str(), self.network_policies.as_slice()) {
            ("", []) => text.push_str("NetworkPolicy: none holds\n"),
            ("", verdicts) => verdicts.iter().for_each(|v| text += &format!("{}\n", v.words())),
            (error, _) => text += &format!("NetworkPolicy: cannot tell: {error}\n"),
        }
        text
    }
}

/// Asks the agent of the node that runs the client's pod, and the API server.
pub async fn run(
    cluster: &Cluster,
    node: Option<String>,
    wanted: ExplainRequest,
    output: Output,
    out: &mut impl Write,
) -> Result<(), CliError> {
    let node = match node {
        Some(node) => node,
        None => node_of(cluster, &wanted.from).await?,
    };
    let agents = cluster.agents(Some(&node)).await?;
    let told =
        each(cluster, &agents, async |mut agent| Ok(agent.explain(wanted.clone()).await?.into_inner()));
    let Answers { nodes, errors } = told.await;
    let mut explained = BTreeMap::new();
    for (node, mesh) in nodes {
        let (network_policies, error) = match network_policies(cluster, &mesh).await {
            Ok(verdicts) => (verdicts, String::new()),
            Err(error) => (Vec::new(), error.to_string()),
        };
        explained.insert(node, Explained { mesh, network_policies, network_policies_error: error });
    }
    Answers { nodes: explained, errors }.one(output, out)
}

async fn node_of(cluster: &Cluster, from: &str) -> Result<String, KubeError> {
    let (namespace, name) = from.split_once('/').ok_or_else(|| KubeError::NotAPod(from.to_owned()))?;
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), namespace);
    let pod = pods.get_opt(name).await.map_err(|e| KubeError::api("cannot read the client's pod", &e))?;
    let pod = pod.ok_or_else(|| KubeError::NotAPod(from.to_owned()))?;
    pod.spec.and_then(|s| s.node_name).ok_or_else(|| KubeError::NotAPod(from.to_owned()))
}

async fn network_policies(cluster: &Cluster, mesh: &Explanation) -> Result<Vec<Verdict>, KubeError> {
    let Some((address, port)) = on_the_wire(mesh) else { return Ok(Vec::new()) };
    let none = BTreeMap::new();
    let (from, to) = (mesh.from.as_ref(), mesh.destination.as_ref());
    let client = from.and_then(|p| p.address.parse::<IpAddr>().ok()).unwrap_or(address);
    let (from_pod, from_labels, mut policies) = end(cluster, from).await?;
    let (to_pod, to_labels, others) = end(cluster, to).await?;
    if from.map(|p| &p.namespace) != to.map(|p| &p.namespace) {
        policies.extend(others);
    }
    let attempt = Attempt {
        from: Side {
            address: client,
            pod: from_pod.as_ref(),
            namespace_labels: from_labels.as_ref().unwrap_or(&none),
        },
        to: Side { address, pod: to_pod.as_ref(), namespace_labels: to_labels.as_ref().unwrap_or(&none) },
        port,
    };
    Ok(netpol::judge(&policies, &attempt))
}

/// Where the connection arrives, as the CNI sees it; none that is refused before it leaves.
fn on_the_wire(mesh: &Explanation) -> Option<(IpAddr, u16)> {
    let at = |text: &str| text.parse::<SocketAddr>().ok();
    let to = mesh.destination.as_ref().and_then(|p| at(&p.address)).or_else(|| at(&mesh.to_address))?;
    match mesh.path.as_str() {
        "refused" => None,
        "tunnel" => Some((at(&mesh.hbone_address).unwrap_or(to).ip(), TUNNEL)),
        _ => Some((to.ip(), to.port())),
    }
}

type End = (Option<Pod>, Option<BTreeMap<String, String>>, Vec<NetworkPolicy>);

/// The pod of a peer, the labels of its namespace, and the policies there.
async fn end(cluster: &Cluster, peer: Option<&crate::admin::proto::Peer>) -> Result<End, KubeError> {
    let Some(peer) = peer.filter(|p| !p.namespace.is_empty()) else { return Ok((None, None, Vec::new())) };
    let client = || cluster.client.clone();
    let pod = Api::<Pod>::namespaced(client(), &peer.namespace).get_opt(&peer.workload).await;
    let pod = pod.map_err(|e| KubeError::api("cannot read a pod", &e))?;
    let namespace = Api::<Namespace>::all(client()).get_opt(&peer.namespace).await;
    let namespace = namespace.map_err(|e| KubeError::api("cannot read a namespace", &e))?;
    let policies = Api::<NetworkPolicy>::namespaced(client(), &peer.namespace);
    let policies = policies.list(&ListParams::default()).await;
    let policies = policies.map_err(|e| KubeError::api("cannot read NetworkPolicies", &e))?;
    Ok((pod, namespace.and_then(|n| n.metadata.labels), policies.items))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::proto::Peer;

    #[test]
    fn a_tunnel_arrives_at_its_own_port() {
        let destination = Some(Peer { address: "10.0.0.2:5432".into(), ..Peer::default() });
        let mut mesh = Explanation { path: "tunnel".into(), destination, ..Explanation::default() };
        mesh.hbone_address = "10.0.0.2:15008".into();
        assert_eq!(on_the_wire(&mesh), Some(("10.0.0.2".parse().unwrap(), 15008)));
        mesh.path = "direct".into();
        assert_eq!(on_the_wire(&mesh), Some(("10.0.0.2".parse().unwrap(), 5432)));
        mesh.path = "refused".into();
        assert_eq!(on_the_wire(&mesh), None);
    }
}
