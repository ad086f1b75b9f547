//! How much a peer may send on a tunnel before it must wait for us.
//!
//! A peer that sends to an application which does not read fills a window and leaves it filled. A tunnel's window therefore
//! begins small and grows with its streams, for as long as the process has something left to lend.

use super::{budget::Budget, settings::Settings};

/// The window of a tunnel to which nothing is lent: HTTP/2's own, in bytes. Enough for a gigabit within a data centre.
const SMALLEST: u32 = 65_535;

/// The window of one tunnel; dropped, it gives back what it borrowed. It never shrinks before: what a peer was once
/// allowed to send cannot be taken back.
#[derive(Debug)]
pub(super) struct Window {
    budget: Budget,
    borrowed: usize,
    /// For each stream.
    share: usize,
    most: usize,
}

impl Window {
    /// The window of a tunnel that has no streams yet.
    pub(super) fn new(settings: &Settings, budget: &Budget) -> Self {
        let (share, most) = (settings.stream_window as usize, settings.connection_window as usize);
        let mut window = Self { budget: budget.clone(), borrowed: 0, share, most };
        window.grow(1);
        window
    }

    /// Its size in bytes.
    pub(super) fn size(&self) -> u32 {
        u32::try_from(self.borrowed).unwrap_or(u32::MAX).max(SMALLEST)
    }

    /// Makes room for `streams` that nobody reads, as far as the budget goes; whether it has grown.
    pub(super) fn grow(&mut self, streams: usize) -> bool {
        let before = self.size();
        let wanted = streams.saturating_mul(self.share).min(self.most);
        self.borrowed += self.budget.borrow(wanted.saturating_sub(self.borrowed));
        self.size() > before
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        self.budget.give_back(self.borrowed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_grow_while_the_budget_lasts_and_give_it_back() {
        let budget = Budget::new(5 << 20);
        let settings = Settings { connection_window: 4 << 20, ..Settings::default() };
        let mut one = Window::new(&settings, &budget);
        assert_eq!((one.size(), budget.left()), (2 << 20, 3 << 20));
        assert!(one.grow(2) && !one.grow(2));
        assert!(!one.grow(100), "as large as a tunnel's may be");
        assert_eq!((one.size(), budget.left()), (4 << 20, 1 << 20));
        let mut two = Window::new(&settings, &budget);
        assert_eq!((two.size(), budget.left()), (1 << 20, 0));
        let three = Window::new(&settings, &budget);
        assert_eq!(three.size(), SMALLEST);
        drop(one);
        assert!(two.grow(1));
        assert_eq!(two.size(), 2 << 20);
        drop((two, three));
        assert_eq!(budget.left(), 5 << 20);
    }
}
