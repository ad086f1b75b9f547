//! The wall clock, which may jump, and waiting by it.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::time::{Instant, sleep_until};

/// How often a wait looks at the wall clock: the longest that a jump goes unnoticed.
const LOOK: Duration = Duration::from_secs(10);

/// Tells the time of day.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> SystemTime + Send + Sync>);

impl Clock {
    /// A clock that is asked by `now`.
    pub fn new(now: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// What it says.
    pub fn now(&self) -> SystemTime {
        (self.0)()
    }

    /// Waits until `pause` is over by the monotonic clock or by this one, whichever says so first: where the time of day was set
    /// forward, or the machine slept, what is due by it is due at once; where it was set back, nothing is put off.
    pub async fn rest(&self, pause: Duration) {
        let until = Instant::now() + pause;
        let due = self.now().checked_add(pause);
        while Instant::now() < until && due.is_none_or(|due| self.now() < due) {
            sleep_until(until.min(Instant::now() + LOOK)).await;
        }
    }
}

impl Default for Clock {
    /// The system's.
    fn default() -> Self {
        Self::new(SystemTime::now)
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[tokio::test(start_paused = true)]
    async fn a_wait_is_over_when_either_clock_says_so() {
        let told = Arc::new(AtomicU64::new(1_000_000));
        let seen = told.clone();
        let clock =
            Clock::new(move || SystemTime::UNIX_EPOCH + Duration::from_secs(seen.load(Ordering::Relaxed)));
        let begun = Instant::now();
        // It stands still, and is then set back.
        clock.rest(Duration::from_secs(25)).await;
        assert_eq!(begun.elapsed(), Duration::from_secs(25));
        let (begun, hour) = (Instant::now(), Duration::from_secs(3600));
        let waits = tokio::spawn({
            let clock = clock.clone();
            async move { clock.rest(hour).await }
        });
        tokio::time::sleep(Duration::from_secs(15)).await;
        told.fetch_sub(500_000, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_secs(15)).await;
        assert!(!waits.is_finished());
        told.fetch_add(600_000, Ordering::Relaxed);
        waits.await.unwrap();
        assert!(begun.elapsed() <= Duration::from_secs(40), "{:?}", begun.elapsed());
    }
}
