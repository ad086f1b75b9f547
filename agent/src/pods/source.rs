//! Where the agent learns which pods run on its node.

mod directory;

pub use directory::{DirectorySource, ListingError, read_listing};

use serde::Deserialize;
use std::{path::PathBuf, sync::Arc};
use tokio::sync::watch;

/// A pod of this node, before anything is known about its place in the mesh.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PodSpec {
    /// The Kubernetes namespace.
    pub namespace: Arc<str>,
    /// The pod's name.
    pub name: Arc<str>,
    /// A path that opens as the pod's network namespace (`/run/netns/web`).
    pub netns: PathBuf,
}

impl std::fmt::Display for PodSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A source of pods. Kubernetes is one, a directory another.
#[async_trait::async_trait]
pub trait PodSource: Send {
    /// The whole list: at once when first asked, then each time that it may have changed.
    ///
    /// A source that cannot read its pods at the moment says so in the log and keeps the last good list. A call that is
    /// dropped may lose a change: see [`follow`].
    async fn next(&mut self) -> Vec<PodSpec>;
}

/// Keeps asking `source`, in a task of its own, and shows its newest list.
pub fn follow(mut source: impl PodSource + 'static) -> watch::Receiver<Option<Vec<PodSpec>>> {
    let (tx, rx) = watch::channel(None);
    tokio::spawn(async move { while tx.send(Some(source.next().await)).is_ok() {} });
    rx
}
