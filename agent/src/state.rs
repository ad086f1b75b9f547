//! The mesh's state as it comes from control: applied, and announced to those who follow it.

use std::sync::Arc;
use tokio::sync::Notify;
use weft_io::discovery::client::Sink;
use weft_model::{Delta, Snapshot, SnapshotStore};

/// The store, with a bell that rings when something has changed.
pub struct State {
    /// The snapshots.
    pub store: Arc<SnapshotStore>,
    changed: Arc<Notify>,
}

impl State {
    /// Applies to `store` and rings `changed`.
    pub fn new(store: Arc<SnapshotStore>, changed: Arc<Notify>) -> Self {
        Self { store, changed }
    }
}

impl Sink for State {
    fn apply(&self, deltas: Vec<Delta>) {
        self.store.apply(deltas);
        // Also when nothing is different: that the first answer is empty is news as well.
        self.changed.notify_one();
    }

    fn snapshot(&self) -> Arc<Snapshot> {
        self.store.load()
    }
}
