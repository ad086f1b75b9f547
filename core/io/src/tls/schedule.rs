//! When certificates are renewed: pure functions of time and chance.

use std::time::{Duration, SystemTime};

/// The first pause after a failed renewal.
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// The longest pause between renewals that fail while a certificate is at hand.
const LONGEST_RETRY: Duration = Duration::from_secs(60);
/// The longest pause while there is none: connections fail for the lack of it.
const LONGEST_WITHOUT: Duration = Duration::from_secs(5);
/// The shortest pause of all: an authority that gives certificates that are over must not be asked in a busy loop.
const SHORTEST: Duration = Duration::from_millis(500);

/// How long to wait, from `now`, before a certificate is renewed that was issued at `issued` and is valid until `not_after`.
///
/// That is half of that time, moved forward or back by up to a twentieth of it (`chance` between 0 and 1), so that the
/// workloads of a node do not all renew at once. Its `notBefore` is no measure: it lies before the issue, for the sake of
/// clocks that differ, and with short lives that is most of the time between the two.
pub fn renew_in(issued: SystemTime, not_after: SystemTime, now: SystemTime, chance: f64) -> Duration {
    let life = not_after.duration_since(issued).unwrap_or_default();
    let share = 0.45 + 0.1 * chance.clamp(0.0, 1.0);
    (issued + life.mul_f64(share)).duration_since(now).unwrap_or_default().max(SHORTEST)
}

/// How long to wait after `failures` failed attempts in a row (at least one): doubling to a minute, spread by `chance`. Of the
/// `left` that the certificate at hand still lives a quarter at most, so that some attempts are made before its end; and not
/// long where there is none.
pub fn retry_in(failures: u32, left: Duration, chance: f64) -> Duration {
    let doubled = FIRST_RETRY.saturating_mul(1 << failures.saturating_sub(1).min(10));
    let longest = if left.is_zero() { LONGEST_WITHOUT } else { LONGEST_RETRY.min(left / 4) };
    doubled.min(longest).mul_f64(0.75 + 0.5 * chance.clamp(0.0, 1.0)).max(SHORTEST)
}

/// How long the authority may take to answer: `usual`, but not so long that the certificate at hand, with `left` to live, ends
/// before another attempt.
pub fn patience(usual: Duration, left: Duration) -> Duration {
    if left.is_zero() { usual } else { usual.min((left / 2).max(FIRST_RETRY)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 + seconds)
    }

    #[test]
    fn renewal_is_near_the_middle_of_the_life() {
        assert_eq!(renew_in(at(0), at(1000), at(0), 0.5).as_secs(), 500);
        assert_eq!(renew_in(at(0), at(1000), at(0), 0.0).as_secs(), 450);
        assert_eq!(renew_in(at(0), at(1000), at(400), 1.0).as_secs(), 150);
        assert_eq!(renew_in(at(0), at(5), at(0), 0.5), Duration::from_millis(2500));
    }

    #[test]
    fn late_or_absurd_certificates_are_renewed_soon_and_not_in_a_busy_loop() {
        assert_eq!(renew_in(at(0), at(10), at(15), 0.5), SHORTEST);
        assert_eq!(renew_in(at(10), at(0), at(10), 0.5), SHORTEST);
    }

    #[test]
    fn retries_double_up_to_a_minute() {
        let day = Duration::from_secs(24 * 3600);
        let seconds: Vec<_> = (1..=9).map(|n| retry_in(n, day, 0.5).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(retry_in(u32::MAX, day, 0.5).as_secs(), 60);
    }

    #[test]
    fn some_attempts_are_made_before_the_end_and_many_after_it() {
        let mut left = Duration::from_secs(30);
        let mut attempts = 0;
        while let Some(rest) = left.checked_sub(retry_in(attempts + 1, left, 1.0)) {
            (left, attempts) = (rest, attempts + 1);
        }
        assert!(attempts >= 6, "{attempts}");
        assert_eq!(retry_in(20, Duration::ZERO, 0.5), LONGEST_WITHOUT);
        let usual = Duration::from_secs(10);
        let of = |left| patience(usual, Duration::from_secs(left)).as_secs();
        assert_eq!([of(0), of(1), of(3), of(5000)], [10, 1, 1, 10]);
    }
}
