//! What one process at a time does: while an agent hands over to the next, both run on the same maps.

use super::KernelError;
use std::{fs::File, path::Path};

/// A turn at something. The kernel takes it from a process that ends, however it ends.
#[derive(Debug)]
pub(super) struct Turn {
    /// A directory whose lock is the turn.
    lock: File,
    ours: bool,
}

impl Turn {
    /// The turn that `dir` stands for; not taken yet.
    pub(super) fn of(dir: &Path) -> Result<Self, KernelError> {
        let lock = File::open(dir).map_err(KernelError::file("open", dir))?;
        Ok(Self { lock, ours: false })
    }

    /// Takes it, unless another has it.
    pub(super) fn take(&mut self) -> bool {
        self.ours = self.ours || self.lock.try_lock().is_ok();
        self.ours
    }

    /// Whether it is taken.
    pub(super) fn is_ours(&self) -> bool {
        self.ours
    }

    /// Leaves it to another.
    pub(super) fn leave(&mut self) {
        // An error would mean that there is no lock to leave.
        let _ = self.lock.unlock();
        self.ours = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_has_it_at_a_time_and_the_next_gets_it_when_it_is_left_or_its_owner_ends() {
        let dir = tempfile::tempdir().unwrap();
        let [mut a, mut b] = [(); 2].map(|()| Turn::of(dir.path()).unwrap());
        assert!(a.take() && a.take() && a.is_ours());
        assert!(!b.take());
        a.leave();
        assert!(b.take());
        assert!(!a.take() && !a.is_ours());
        drop(b);
        assert!(a.take());
    }
}
