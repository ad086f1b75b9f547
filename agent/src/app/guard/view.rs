//! What is told of the guard: where it stands, and which pods it keeps waiting.

use super::{GuardPost, Standing, locked};
use crate::{
    admin::proto,
    config::Guard,
    pods::{
        Sandbox,
        roster::{self, Roster},
        source::kube::{NodePaths, tree},
    },
    state::NodePods,
};
use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::Path,
    sync::{Arc, Mutex},
};
use tokio::sync::watch;

/// Processes of a pod that are looked at for its network namespace.
const LOOKED_AT: usize = 8;

/// Tells of the guard.
#[derive(Clone)]
pub struct GuardView {
    paths: NodePaths,
    mode: Guard,
    standing: Arc<Mutex<Standing>>,
    pods: watch::Receiver<NodePods>,
}

impl GuardPost {
    /// What tells of it; `pods` are those that control says are on this node.
    pub fn view(&self, pods: watch::Receiver<NodePods>) -> GuardView {
        GuardView { paths: self.paths.clone(), mode: self.wanted, standing: self.standing.clone(), pods }
    }
}

impl GuardView {
    /// How it stands now, but for what it refused.
    pub fn now(&self, roster: &Roster) -> proto::Guard {
        let Standing { cgroup, error } = locked(&self.standing).clone();
        let (mode, mut waiting) = match self.mode {
            Guard::Mesh => ("mesh", Vec::new()),
            Guard::All => ("all", Vec::new()),
            Guard::Off => ("off", Vec::new()),
        };
        if self.mode != Guard::Off {
            waiting.extend(not_enrolled(roster));
            waiting.extend(self.unknown());
        }
        proto::Guard {
            mode: mode.into(),
            cgroup: cgroup.map(|path| path.display().to_string()).unwrap_or_default(),
            error: error.unwrap_or_default(),
            waiting,
            refused: 0,
        }
    }

    /// Pods with a cgroup and a network of their own of which control has not told. Those on the node's network are the node.
    fn unknown(&self) -> Vec<String> {
        // That there is no tree is told where it is attached.
        let tree =
            self.paths.kubepods().ok().and_then(|kubepods| tree::read(&kubepods).ok()).unwrap_or_default();
        let known = self.pods.borrow().clone();
        let unknown = tree.pods.into_iter().filter(|(uid, _)| !known.contains_key(&**uid));
        let waits = unknown.filter(|(_, dir)| has_own_network(&self.paths.proc, dir));
        waits.map(|(uid, _)| format!("uid {uid}")).collect()
    }
}

/// Pods of the mesh that have a sandbox, and are not in it yet.
fn not_enrolled(roster: &Roster) -> Vec<String> {
    let listed = roster.listed.load();
    let waits = listed.iter().filter(|listed| {
        listed.spec.meshed == Some(true)
            && matches!(listed.spec.netns, Sandbox::Held(_))
            && listed.standing != roster::Standing::Enrolled
    });
    waits.map(|listed| listed.spec.to_string()).collect()
}

/// Whether a process of the cgroup is in another network namespace than this one, which is the node's.
fn has_own_network(proc: &Path, pod: &Path) -> bool {
    let of = |path: &Path| fs::metadata(path).map(|file| (file.dev(), file.ino())).ok();
    let Some(own) = of(Path::new("/proc/self/ns/net")) else { return false };
    let pids = tree::processes(pod).into_iter().take(LOOKED_AT);
    let found = pids.filter_map(|pid| of(&proc.join(pid.to_string()).join("ns/net")));
    found.into_iter().any(|netns| netns != own)
}
