//! The limit on how many connections the agent carries at once.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// Counts connections against a limit.
#[derive(Clone, Debug)]
pub struct Admission {
    open: Arc<AtomicUsize>,
    most: usize,
}

/// One connection's place; dropping it frees the place.
#[derive(Debug)]
pub struct Permit(Arc<AtomicUsize>);

impl Admission {
    /// At most `most` connections.
    pub fn new(most: usize) -> Self {
        Self { open: Arc::default(), most }
    }

    /// A place for one more connection, while there is one.
    pub fn enter(&self) -> Option<Permit> {
        // The count may pass the limit for a moment; nobody is let in meanwhile.
        if self.open.fetch_add(1, Ordering::Relaxed) < self.most {
            return Some(Permit(self.open.clone()));
        }
        self.open.fetch_sub(1, Ordering::Relaxed);
        None
    }

    /// How many connections there are now.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// How many there may be.
    pub fn most(&self) -> usize {
        self.most
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_given_and_taken_back() {
        let admission = Admission::new(2);
        let one = admission.enter().unwrap();
        let _two = admission.enter().unwrap();
        assert!(admission.enter().is_none());
        assert_eq!(admission.open(), 2);
        drop(one);
        assert!(admission.enter().is_some());
    }
}
