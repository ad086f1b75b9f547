//! Draining: tell every connection to finish, and wait until each has.
//!
//! A connection holds a [`Watcher`] for as long as it lives; dropping it is how it reports that it is done.

use std::time::Duration;
use tokio::{sync::watch, time::Instant};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Running,
    Draining { until: Instant },
    Over,
}

/// How a drain ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drained {
    /// Everyone finished by themselves.
    InTime,
    /// The deadline passed with this many still busy; they were told to stop at once.
    Forced(usize),
}

/// Starts the drain; held by whoever decides that the process goes.
#[derive(Debug)]
pub struct Signal {
    phase: watch::Sender<Phase>,
}

/// Hears of the drain, and holds it up until dropped.
#[derive(Clone, Debug)]
pub struct Watcher {
    phase: watch::Receiver<Phase>,
}

/// A drain that has not begun.
pub fn channel() -> (Signal, Watcher) {
    let (sender, receiver) = watch::channel(Phase::Running);
    (Signal { phase: sender }, Watcher { phase: receiver })
}

impl Signal {
    /// How many watchers live.
    pub fn busy(&self) -> usize {
        self.phase.receiver_count()
    }

    /// One more watcher.
    pub fn watcher(&self) -> Watcher {
        Watcher { phase: self.phase.subscribe() }
    }

    /// Asks everyone to finish, waits for at most `deadline`, then tells the rest to stop at once.
    ///
    /// The rest is not awaited: [`Watcher::over`] has resolved for it when this returns.
    pub async fn drain(self, deadline: Duration) -> Drained {
        let until = Instant::now() + deadline;
        self.phase.send_replace(Phase::Draining { until });
        if tokio::time::timeout_at(until, self.phase.closed()).await.is_ok() {
            return Drained::InTime;
        }
        let left = self.busy();
        self.phase.send_replace(Phase::Over);
        if left == 0 { Drained::InTime } else { Drained::Forced(left) }
    }
}

impl Watcher {
    /// Whether the drain has begun.
    pub fn is_draining(&self) -> bool {
        *self.phase.borrow() != Phase::Running
    }

    /// Waits until the drain begins, and tells when it will be over.
    ///
    /// A [`Signal`] that is dropped without draining counts as a drain with no time left.
    pub async fn draining(&mut self) -> Instant {
        match self.phase.wait_for(|phase| *phase != Phase::Running).await.as_deref() {
            Ok(Phase::Draining { until }) => *until,
            _ => Instant::now(),
        }
    }

    /// Waits until the drain's time is over and everything must stop.
    pub async fn over(&mut self) {
        // An error means that the signal is gone, and with it the time to wait.
        let _ = self.phase.wait_for(|phase| *phase == Phase::Over).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn ends_when_the_last_watcher_is_dropped() {
        let (signal, mut one) = channel();
        let two = one.clone();
        assert_eq!(signal.busy(), 2);
        assert!(!one.is_draining());
        let drain = tokio::spawn(signal.drain(Duration::from_secs(600)));
        one.draining().await;
        assert!(two.is_draining());
        drop(one);
        assert!(!drain.is_finished());
        drop(two);
        assert_eq!(drain.await.unwrap(), Drained::InTime);
    }

    #[tokio::test(start_paused = true)]
    async fn forces_those_who_do_not_finish() {
        let (signal, mut watcher) = channel();
        let begun = Instant::now();
        let drain = tokio::spawn(signal.drain(Duration::from_secs(5)));
        assert_eq!(watcher.draining().await, begun + Duration::from_secs(5));
        watcher.over().await;
        assert_eq!(drain.await.unwrap(), Drained::Forced(1));
    }

    #[tokio::test]
    async fn a_lost_signal_is_a_drain_without_time() {
        let (signal, mut watcher) = channel();
        drop(signal);
        watcher.draining().await;
        watcher.over().await;
    }
}
