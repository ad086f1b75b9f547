//! The mesh's state as it comes from control: applied, and announced to those who follow it.

use std::{collections::BTreeMap, sync::Arc};
use tokio::sync::{Notify, watch};
use weft_io::discovery::client::Sink;
use weft_model::{Delta, Name, NodePod, Snapshot, SnapshotStore};

/// The pods that control says are on this node, by uid.
pub type NodePods = Arc<BTreeMap<Name, NodePod>>;

/// The store, with a bell that rings when something has changed.
pub struct State {
    /// The snapshots.
    pub store: Arc<SnapshotStore>,
    changed: Arc<Notify>,
    node_pods: watch::Sender<NodePods>,
}

impl State {
    /// Applies to `store` and rings `changed`.
    pub fn new(store: Arc<SnapshotStore>, changed: Arc<Notify>) -> Self {
        Self { store, changed, node_pods: watch::Sender::default() }
    }

    /// Follows the pods of the node.
    pub fn node_pods(&self) -> watch::Receiver<NodePods> {
        self.node_pods.subscribe()
    }
}

impl Sink for State {
    fn apply(&self, deltas: Vec<Delta>) {
        self.store.apply(deltas);
        let pods = self.store.load().node_pods().clone();
        self.node_pods.send_if_modified(|known| {
            let differs = !Arc::ptr_eq(known, &pods);
            *known = pods;
            differs
        });
        // Also when nothing is different: that the first answer is empty is news as well.
        self.changed.notify_one();
    }

    fn snapshot(&self) -> Arc<Snapshot> {
        self.store.load()
    }
}
