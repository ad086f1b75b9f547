//! Durations as people write them: `30s`, `15m`, `24h`, `365d`.

use std::time::Duration;

/// `None` where `text` is no duration, or none at all.
pub(super) fn parse(text: &str) -> Option<Duration> {
    let unit = text.chars().next_back()?;
    let number: u64 = text.strip_suffix(unit)?.parse().ok()?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 24 * 3600,
        _ => return None,
    };
    // A century is more than any certificate needs, and keeps dates within what X.509 can say.
    let seconds = number.checked_mul(seconds).filter(|s| (1..=100 * 365 * 24 * 3600).contains(s))?;
    Some(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_write() {
        for (text, seconds) in [("30s", 30), ("15m", 900), ("24h", 86_400), ("2d", 172_800)] {
            assert_eq!(parse(text), Some(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "s", "10", "-1s", "0s", "1w", "1.5h", "99999999999999999999d", "999999d", "1ß"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
