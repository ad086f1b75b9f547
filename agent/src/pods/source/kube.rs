//! The pods of a Kubernetes node: control says which they are, the node's cgroups and processes where they are.
//!
//! No container runtime is asked, and no CNI plugin. What was found is held open: containers may restart, and a runtime
//! without a process of its own in the sandbox may have none there for a while. It is let go when the pod, or its cgroup, is
//! gone, and replaced when the pod's processes are in another namespace.

mod sandbox;
pub mod tree;
mod watch;

use super::{Netns, PodSource, PodSpec, Sandbox};
use crate::state::NodePods;
use futures::future::BoxFuture;
use sandbox::{Blind, Finder, NetnsFile};
use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::watch::Receiver;
use tree::Tree;
use watch::Watch;
use weft_model::Name;

/// How often it is looked without a reason.
const SELDOM: Duration = Duration::from_secs(1);
/// How often while something is happening: a process joins its namespace without a word.
const OFTEN: Duration = Duration::from_millis(10);
/// How long that is kept up after the last news of a cgroup.
const RESTLESS: Duration = Duration::from_secs(3);

/// Where the node is looked at.
#[derive(Clone, Debug)]
pub struct NodePaths {
    /// The host's processes: `/proc`, or where that of the host is mounted.
    pub proc: PathBuf,
    /// The node's cgroup.
    pub cgroup: PathBuf,
    /// The kubelet's cgroup; found below `cgroup` where it is not given.
    pub pods: Option<PathBuf>,
}

impl NodePaths {
    /// The kubelet's cgroup.
    pub fn kubepods(&self) -> Result<PathBuf, tree::FindError> {
        match &self.pods {
            Some(path) => Ok(path.clone()),
            None => tree::find(&self.cgroup),
        }
    }
}

/// Finds the pods that control says are on this node.
pub struct KubeSource {
    paths: NodePaths,
    node: String,
    pods: Receiver<NodePods>,
    /// Resolves when they are known for the first time.
    known: Option<BoxFuture<'static, ()>>,
    finder: Finder,
    watch: Watch,
    held: BTreeMap<Name, Held>,
    last: Option<Vec<PodSpec>>,
    restless_until: Instant,
    /// What was said to be wrong, so that it is said once.
    complaint: Option<String>,
}

/// The namespace of a pod.
struct Held {
    netns: Arc<Netns>,
    file: NetnsFile,
    /// A process that was in it when that was last looked at.
    pid: i32,
}

/// Why there is no list.
#[derive(Debug, thiserror::Error)]
enum LookError {
    #[error(transparent)]
    NoCgroup(#[from] tree::FindError),
    #[error("cannot read the kubelet's cgroup {path}: {source}", path = path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Blind(#[from] Blind),
}

impl KubeSource {
    /// A source for `node`, which is told of its pods by `pods`; they are `known` when that resolves. The network namespace of
    /// the calling thread is taken for the node's own.
    pub fn new(
        node: &str,
        paths: NodePaths,
        pods: Receiver<NodePods>,
        known: BoxFuture<'static, ()>,
    ) -> io::Result<Self> {
        Ok(Self {
            finder: Finder::new(&paths.proc)?,
            paths,
            node: node.to_owned(),
            pods,
            known: Some(known),
            watch: Watch::new(),
            held: BTreeMap::new(),
            last: None,
            restless_until: Instant::now(),
            complaint: None,
        })
    }

    /// Looks at every pod.
    fn look(&mut self) -> Result<Vec<PodSpec>, LookError> {
        let kubepods = self.paths.kubepods()?;
        let tree = tree::read(&kubepods)
            .map_err(|source| LookError::Unreadable { path: kubepods.clone(), source })?;
        let pods = self.pods.borrow_and_update().clone();
        let own = || pods.values().filter(|pod| *pod.node == *self.node);
        let (held, finder) = (&mut self.held, &self.finder);
        held.retain(|uid, _| pods.contains_key(uid) && tree.pods.contains_key(&**uid));
        let mut listed = Vec::new();
        for pod in own() {
            if let Some(dir) = tree.pods.get(&*pod.uid) {
                look_at(finder, &pod.uid, dir, held)?;
            }
            let netns = held.get(&pod.uid).map_or(Sandbox::Awaited, |h| Sandbox::Held(h.netns.clone()));
            listed.push(PodSpec {
                namespace: pod.namespace.clone(),
                name: pod.name.clone(),
                netns,
                meshed: Some(pod.meshed),
            });
        }
        // Two of one name: one of them is on its way out, and the other has no sandbox yet.
        listed.sort();
        listed.dedup_by(|b, a| (&a.namespace, &a.name) == (&b.namespace, &b.name));
        self.follow(&tree);
        Ok(listed)
    }

    /// Watches where pods appear, and in those that control knows where their sandboxes do.
    fn follow(&mut self, tree: &Tree) {
        let pods = self.pods.borrow();
        let dirs = pods.keys().filter_map(|uid| tree.pods.get(&**uid));
        self.watch.follow(&tree.parents.iter().chain(dirs).cloned().collect::<BTreeSet<_>>());
    }

    /// Whether a pod has a cgroup and no namespace, or something is happening otherwise.
    fn pause(&self) -> Duration {
        if Instant::now() < self.restless_until { OFTEN } else { SELDOM }
    }

    /// Waits until it may be worth looking again.
    async fn wait(&mut self) {
        let pause = self.pause();
        tokio::select! {
            () = self.watch.news() => self.restless_until = Instant::now() + RESTLESS,
            changed = self.pods.changed() => match changed {
                Ok(()) => self.restless_until = Instant::now() + RESTLESS,
                Err(_) => tokio::time::sleep(SELDOM).await,
            },
            () = tokio::time::sleep(pause) => {}
        }
    }

    /// Says what is wrong, once.
    fn complain(&mut self, error: &LookError) {
        let text = error.to_string();
        if self.complaint.as_ref() != Some(&text) {
            tracing::error!(
                error = text,
                "the pods of this node cannot be found; what is known of them stays in force"
            );
            self.complaint = Some(text);
        }
    }
}

/// Finds the namespace of a pod, or sees that it is still the one that is held.
fn look_at(finder: &Finder, uid: &Name, dir: &Path, held: &mut BTreeMap<Name, Held>) -> Result<(), Blind> {
    if held.get(uid).is_some_and(|known| finder.is_in(known.pid, known.file)) {
        return Ok(());
    }
    let pids = tree::processes(dir);
    if let Some(known) = held.get_mut(uid)
        && let Some(pid) = pids.iter().copied().find(|pid| finder.is_in(*pid, known.file))
    {
        known.pid = pid;
        return Ok(());
    }
    // Of one whose processes are all gone the namespace may come to be used again.
    let Some(found) = finder.find(uid, &pids)? else { return Ok(()) };
    let cookie = found.netns.cookie();
    tracing::debug!(pod_uid = %uid, pid = found.pid, cookie, "found the network namespace of a pod");
    held.insert(uid.clone(), Held { netns: Arc::new(found.netns), file: found.file, pid: found.pid });
    Ok(())
}

#[async_trait::async_trait]
impl PodSource for KubeSource {
    async fn next(&mut self) -> Vec<PodSpec> {
        match self.known.take() {
            Some(known) => known.await,
            None => self.wait().await,
        }
        loop {
            match self.look() {
                Ok(listed) => {
                    if self.complaint.take().is_some() {
                        tracing::info!("the pods of this node can be found again");
                    }
                    if self.last.as_ref() != Some(&listed) {
                        return self.last.insert(listed).clone();
                    }
                }
                Err(error) => self.complain(&error),
            }
            self.wait().await;
        }
    }
}
