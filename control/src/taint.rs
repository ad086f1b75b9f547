//! The start-up taint: a node that is new takes no pods before its agent can carry them.
//!
//! Whoever sets nodes up gives them the taint (kubelet's `--register-with-taints`, a node pool's setting); control takes it
//! away when the node's agent is connected, has taken all that it was told, and says that it is ready. The replica to which
//! the agent is connected does so, since the others do not see it; that two of them try is no harm.

use crate::serve::agents::Agents;
use k8s_openapi::api::core::v1::{Node, Taint};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use serde_json::json;
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    sync::Arc,
    time::Duration,
};
use tokio_util::sync::CancellationToken;

/// The taint's key; its effect is `NoSchedule`.
pub const KEY: &str = "weft.dev/agent-not-ready";

/// How often agents are looked at. Of those whose nodes were relieved one is looked at again each time.
const TICK: Duration = Duration::from_secs(1);
/// Nodes that are relieved in one tick at most.
const AT_ONCE: usize = 50;
/// How long one node may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why a node keeps its taint.
#[derive(Debug, thiserror::Error)]
pub enum TaintError {
    /// The API refuses.
    #[error("{0}; control needs to get and patch nodes")]
    Api(#[from] kube::Error),
    /// It does not answer.
    #[error("the API server has not answered within {PATIENCE:?}")]
    Slow,
}

/// What takes the taint away.
#[async_trait::async_trait]
pub trait Relieve: Send + Sync + 'static {
    /// Takes the taint off a node; whether it was there.
    async fn relieve(&self, node: &str) -> Result<bool, TaintError>;
}

/// The nodes of a cluster.
pub struct KubeNodes(Api<Node>);

impl KubeNodes {
    /// The nodes that `client` reaches.
    pub fn new(client: Client) -> Self {
        Self(Api::all(client))
    }
}

#[async_trait::async_trait]
impl Relieve for KubeNodes {
    async fn relieve(&self, name: &str) -> Result<bool, TaintError> {
        let Some(node) = self.0.get_opt(name).await? else { return Ok(false) };
        let taints = node.spec.and_then(|spec| spec.taints).unwrap_or_default();
        let (ours, others): (Vec<Taint>, Vec<Taint>) = taints.into_iter().partition(|taint| taint.key == KEY);
        if ours.is_empty() {
            return Ok(false);
        }
        // With the version that was read: a taint that somebody adds meanwhile is not lost.
        let patch = json!({
            "metadata": {"resourceVersion": node.metadata.resource_version},
            "spec": {"taints": others},
        });
        self.0.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await?;
        Ok(true)
    }
}

/// Takes the taint off the nodes whose agents are ready, until `shutdown`.
pub async fn keep_relieving(agents: Arc<Agents>, nodes: Arc<dyn Relieve>, shutdown: CancellationToken) {
    let mut warden =
        Warden { nodes, relieved: BTreeSet::new(), next: String::new(), complaints: BTreeMap::new() };
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(TICK) => warden.look(&agents.ready()).await,
        }
    }
}

struct Warden {
    nodes: Arc<dyn Relieve>,
    /// Relieved since their agents became ready.
    relieved: BTreeSet<String>,
    /// After whom it is looked again.
    next: String,
    /// What was said of a node, so that it is said once.
    complaints: BTreeMap<String, String>,
}

impl Warden {
    async fn look(&mut self, ready: &BTreeSet<String>) {
        self.relieved.retain(|node| ready.contains(node));
        self.complaints.retain(|node, _| ready.contains(node));
        let due: Vec<String> = ready.difference(&self.relieved).take(AT_ONCE).cloned().collect();
        for node in due {
            if self.relieve(&node).await {
                self.relieved.insert(node);
            }
        }
        // A node may be registered anew, with its taint, under an agent that goes on.
        let after = (Bound::Excluded(self.next.clone()), Bound::Unbounded);
        let again = self.relieved.range(after).next().or(self.relieved.first()).cloned();
        if let Some(node) = again {
            self.relieve(&node).await;
            self.next = node;
        }
    }

    async fn relieve(&mut self, node: &str) -> bool {
        let done = tokio::time::timeout(PATIENCE, self.nodes.relieve(node)).await;
        match done.unwrap_or(Err(TaintError::Slow)) {
            Ok(was_there) => {
                if was_there {
                    tracing::info!(node, taint = KEY, "the node takes pods: its agent is ready");
                }
                self.complaints.remove(node);
                true
            }
            Err(error) => {
                let error = error.to_string();
                if self.complaints.get(node) != Some(&error) {
                    tracing::error!(node, taint = KEY, error, "the node keeps its taint; trying again");
                    self.complaints.insert(node.to_owned(), error);
                }
                false
            }
        }
    }
}
