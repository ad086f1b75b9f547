//! Complaints that a stranger can cause, and therefore must not be made each time.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

/// The same complaint is not made more often than this.
const PAUSE: Duration = Duration::from_secs(5);

/// When one kind of complaint was last made by a lane.
#[derive(Debug, Default)]
pub struct Complaint {
    last: Cell<Option<Instant>>,
    passed_over: Cell<u64>,
}

impl Complaint {
    /// Whether it is time to complain; if so, how many complaints were passed over since the last one.
    pub fn due(&self) -> Option<u64> {
        if self.last.get().is_some_and(|at| at.elapsed() < PAUSE) {
            self.passed_over.set(self.passed_over.get() + 1);
            return None;
        }
        self.last.set(Some(Instant::now()));
        Some(self.passed_over.take())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_one_complaint_and_the_next_one_counts_it() {
        let complaint = Complaint::default();
        let due: Vec<_> = (0..1000).map(|_| complaint.due()).collect();
        assert_eq!(due[0], Some(0));
        assert!(due.iter().filter(|due| due.is_some()).count() < 10);
        complaint.passed_over.set(7);
        complaint.last.set(None);
        assert_eq!(complaint.due(), Some(7));
    }
}
