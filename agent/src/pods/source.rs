//! Where the agent learns which pods run on its node.

mod directory;
pub mod kube;

pub use directory::{DirectorySource, ListingError, read_listing};
pub use kube::KubeSource;

use super::Netns;
use serde::Deserialize;
use std::{cmp::Ordering, fmt, path::PathBuf, sync::Arc};
use tokio::sync::watch;

/// A pod of this node, before anything is known about its place in the mesh.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PodSpec {
    /// The Kubernetes namespace.
    pub namespace: Arc<str>,
    /// The pod's name.
    pub name: Arc<str>,
    /// Its network namespace.
    pub netns: Sandbox,
    /// Whether it takes part in the mesh, where the source knows; otherwise its workload says.
    #[serde(skip)]
    pub meshed: Option<bool>,
}

/// A pod's network namespace, as a source finds it.
#[derive(Clone, Debug, Deserialize)]
#[serde(from = "PathBuf")]
pub enum Sandbox {
    /// A path that opens as it (`/run/netns/web`). It may come to stand for another one.
    At(PathBuf),
    /// The source holds it open, and says when there is another in its place.
    Held(Arc<Netns>),
    /// There is none yet.
    Awaited,
}

impl Sandbox {
    fn key(&self) -> (u8, Option<&PathBuf>, u64) {
        match self {
            Sandbox::At(path) => (0, Some(path), 0),
            Sandbox::Held(netns) => (1, None, netns.cookie()),
            Sandbox::Awaited => (2, None, 0),
        }
    }
}

impl PartialEq for Sandbox {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Sandbox {}

impl PartialOrd for Sandbox {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Sandbox {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}

impl From<PathBuf> for Sandbox {
    fn from(path: PathBuf) -> Self {
        Sandbox::At(path)
    }
}

impl From<&str> for Sandbox {
    fn from(path: &str) -> Self {
        Sandbox::At(path.into())
    }
}

impl fmt::Display for Sandbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Sandbox::At(path) => write!(f, "{}", path.display()),
            Sandbox::Held(netns) => write!(f, "with the cookie {}", netns.cookie()),
            Sandbox::Awaited => f.write_str("none yet"),
        }
    }
}

impl PodSpec {
    /// A pod whose namespace is at a path, and whose workload says whether it takes part.
    pub fn new(namespace: impl Into<Arc<str>>, name: impl Into<Arc<str>>, netns: impl Into<Sandbox>) -> Self {
        Self { namespace: namespace.into(), name: name.into(), netns: netns.into(), meshed: None }
    }
}

impl fmt::Display for PodSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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
