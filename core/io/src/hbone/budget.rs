//! What peers may pin here: one budget for the windows of all incoming tunnels, and one for those of all outgoing ones.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// Bytes that may be lent to windows. Clones lend from the same store.
#[derive(Clone, Debug)]
pub struct Budget(Arc<AtomicUsize>);

impl Budget {
    /// A budget of `bytes`.
    pub fn new(bytes: usize) -> Self {
        Self(Arc::new(AtomicUsize::new(bytes)))
    }

    /// The bytes that are not lent.
    pub fn left(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Borrows up to `bytes`; how many it got.
    pub(super) fn borrow(&self, bytes: usize) -> usize {
        let taken = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| Some(left.saturating_sub(bytes)));
        // The closure never refuses.
        taken.map_or(0, |before| before.min(bytes))
    }

    /// Takes back what was borrowed.
    pub(super) fn give_back(&self, bytes: usize) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }
}
