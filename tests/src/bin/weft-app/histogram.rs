//! Durations in buckets of a tenth of a percent.

use std::time::Duration;

/// Buckets in each power of two.
const STEPS_LOG2: u32 = 10;
const STEPS: u64 = 1 << STEPS_LOG2;

/// Counts of durations, in nanoseconds up to a minute and more, each off by at most one part in a thousand.
pub struct Histogram {
    buckets: Vec<u64>,
    count: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: vec![0; bucket(u64::MAX >> 20) + 1], count: 0 }
    }
}

impl Histogram {
    /// Counts one duration.
    pub fn record(&mut self, duration: Duration) {
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let last = self.buckets.len() - 1;
        self.buckets[bucket(nanoseconds).min(last)] += 1;
        self.count += 1;
    }

    /// How many were counted.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The duration in nanoseconds that this part (0 to 1) of the counted ones does not exceed; 0 when there are none.
    pub fn quantile(&self, quantile: f64) -> u64 {
        let wanted = ((self.count as f64 * quantile).ceil() as u64).max(1);
        let mut seen = 0;
        for (index, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return lower_bound(index as u64);
            }
        }
        0
    }
}

/// The bucket of a value: itself below `STEPS`, then `STEPS` buckets for each doubling.
fn bucket(value: u64) -> usize {
    let shift = (u64::BITS - value.leading_zeros()).saturating_sub(STEPS_LOG2 + 1);
    (u64::from(shift) * STEPS + (value >> shift)) as usize
}

/// The smallest value of a bucket.
fn lower_bound(bucket: u64) -> u64 {
    let shift = (bucket / STEPS).saturating_sub(1);
    (bucket - shift * STEPS) << shift
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_within_a_thousandth_of_its_bucket() {
        for value in (0..5000).chain((1..40).map(|power| (1 << power) + 17)) {
            let low = lower_bound(bucket(value) as u64);
            assert!(low <= value && value - low <= value / 1000, "{value} is counted as {low}");
        }
    }

    #[test]
    fn quantiles_are_what_they_say() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile(0.5), 0);
        (1..=1000).for_each(|value| histogram.record(Duration::from_nanos(value)));
        assert_eq!([0.5, 0.99, 1.0].map(|quantile| histogram.quantile(quantile)), [500, 990, 1000]);
        histogram.record(Duration::MAX);
        assert!(histogram.quantile(1.0) > 60_000_000_000);
    }
}
