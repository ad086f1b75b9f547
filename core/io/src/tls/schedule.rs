//! When certificates are renewed: pure functions of time and chance.

use std::time::{Duration, SystemTime};

/// The first pause after a failed renewal.
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// The longest pause between renewals that fail.
const LONGEST_RETRY: Duration = Duration::from_secs(60);

/// How long to wait, from `now`, before a certificate valid from `not_before` to `not_after` is renewed.
///
/// That is half its life, moved forward or back by up to a twentieth of it (`chance` between 0 and 1), so that the
/// workloads of a node do not all renew at once.
pub fn renew_in(not_before: SystemTime, not_after: SystemTime, now: SystemTime, chance: f64) -> Duration {
    let life = not_after.duration_since(not_before).unwrap_or_default();
    let share = 0.45 + 0.1 * chance.clamp(0.0, 1.0);
    (not_before + life.mul_f64(share)).duration_since(now).unwrap_or_default()
}

/// How long to wait after `failures` failed attempts in a row (at least one): doubling to a minute, spread by `chance`.
pub fn retry_in(failures: u32, chance: f64) -> Duration {
    let doubled = FIRST_RETRY.saturating_mul(1 << failures.saturating_sub(1).min(10));
    doubled.min(LONGEST_RETRY).mul_f64(0.75 + 0.5 * chance.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renewal_is_near_the_middle_of_the_life() {
        let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let end = start + Duration::from_secs(1000);
        assert_eq!(renew_in(start, end, start, 0.5).as_secs(), 500);
        assert_eq!(renew_in(start, end, start, 0.0).as_secs(), 450);
        assert_eq!(renew_in(start, end, start + Duration::from_secs(400), 1.0).as_secs(), 150);
    }

    #[test]
    fn late_or_absurd_certificates_are_renewed_at_once() {
        let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let end = start + Duration::from_secs(10);
        assert_eq!(renew_in(start, end, end + Duration::from_secs(5), 0.5), Duration::ZERO);
        assert_eq!(renew_in(end, start, end, 0.5), Duration::ZERO);
    }

    #[test]
    fn retries_double_up_to_a_minute() {
        let seconds: Vec<_> = (1..=9).map(|n| retry_in(n, 0.5).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(retry_in(u32::MAX, 0.5).as_secs(), 60);
    }
}
