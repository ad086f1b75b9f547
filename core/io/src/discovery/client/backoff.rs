//! Waits that grow, with jitter: a thousand nodes that lost the same control plane must not come back at once.

use rand::Rng;
use std::time::Duration;

pub(super) struct Backoff {
    min: Duration,
    max: Duration,
    current: Duration,
}

impl Backoff {
    pub(super) fn new((min, max): (Duration, Duration)) -> Self {
        let min = min.max(Duration::from_millis(1));
        Self { min, max: max.max(min), current: min }
    }

    pub(super) fn reset(&mut self) {
        self.current = self.min;
    }

    /// The next wait: between half of the current step and all of it; the step then doubles.
    pub(super) fn next(&mut self) -> Duration {
        let wait = self.current.mul_f64(rand::rng().random_range(0.5..=1.0));
        self.current = (self.current * 2).min(self.max);
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_to_its_bound_and_starts_over() {
        let (min, max) = (Duration::from_millis(100), Duration::from_secs(1));
        let mut backoff = Backoff::new((min, max));
        for step in [100, 200, 400, 800, 1000, 1000] {
            let wait = backoff.next();
            let step = Duration::from_millis(step);
            assert!(wait >= step / 2 && wait <= step, "{wait:?} of {step:?}");
        }
        backoff.reset();
        assert!(backoff.next() <= min);
    }
}
