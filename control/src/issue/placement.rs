//! Which identities run on which node: what a node may ask certificates for.

use rustc_hash::FxHashMap;
use std::sync::{PoisonError, RwLock};
use weft_model::{Delta, Identity, Name, WorkloadUid};

/// Where identities run, as the index says.
#[derive(Debug, Default)]
pub struct Placement {
    state: RwLock<State>,
}

#[derive(Debug, Default)]
struct State {
    workloads: FxHashMap<WorkloadUid, (Name, Identity)>,
    counts: FxHashMap<(Name, Identity), usize>,
}

impl Placement {
    /// Follows the index.
    pub fn apply(&self, deltas: &[Delta]) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        for delta in deltas {
            match delta {
                Delta::Workload(w) => {
                    state.remove(&w.uid);
                    // A node has no business with identities of pods that share its own network: they are not meshed.
                    if w.is_meshed() && !w.node.is_empty() {
                        state.insert(w.uid.clone(), (w.node.clone(), w.identity()));
                    }
                }
                Delta::WorkloadGone(uid) => state.remove(uid),
                Delta::Service(_)
                | Delta::ServiceGone(_)
                | Delta::Policy(_)
                | Delta::PolicyGone(_)
                | Delta::NodePod(_)
                | Delta::NodePodGone(_) => {}
            }
        }
    }

    /// Whether a workload of `identity` runs on `node`.
    pub fn runs_on(&self, identity: &Identity, node: &str) -> bool {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        state.counts.contains_key(&(node.into(), identity.clone()))
    }
}

impl State {
    fn insert(&mut self, uid: WorkloadUid, place: (Name, Identity)) {
        *self.counts.entry(place.clone()).or_default() += 1;
        self.workloads.insert(uid, place);
    }

    fn remove(&mut self, uid: &WorkloadUid) {
        let Some(place) = self.workloads.remove(uid) else { return };
        if let Some(count) = self.counts.get_mut(&place) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&place);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weft_model::{Workload, workload::Tunnel};

    fn pod(name: &str, node: &str, tunnel: Tunnel) -> Delta {
        let uid = format!("c//Pod/shop/{name}");
        let mut workload = Workload::new(uid, "shop", name, "web");
        workload.node = node.into();
        workload.tunnel = tunnel;
        Delta::Workload(Box::new(workload))
    }

    #[test]
    fn an_identity_is_on_a_node_as_long_as_a_meshed_pod_of_it_is() {
        let placement = Placement::default();
        let web = Identity::new("cluster.local", "shop", "web");
        placement.apply(&[pod("a", "n1", Tunnel::Hbone), pod("b", "n1", Tunnel::Hbone)]);
        placement.apply(&[pod("c", "n2", Tunnel::None)]);
        assert!(placement.runs_on(&web, "n1"));
        assert!(!placement.runs_on(&web, "n2"), "a pod outside the mesh needs no certificate");
        placement.apply(&[Delta::WorkloadGone("c//Pod/shop/a".into())]);
        assert!(placement.runs_on(&web, "n1"));
        placement.apply(&[pod("b", "n3", Tunnel::Hbone)]);
        assert!(!placement.runs_on(&web, "n1"));
        assert!(placement.runs_on(&web, "n3"));
    }
}
