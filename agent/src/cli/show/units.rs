//! Bytes, durations and ages as people read them.

/// `1536` as `1.5 KiB`.
pub fn bytes(n: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if n < 1024 {
        return format!("{n} B");
    }
    let (mut value, mut unit) = (n as f64 / 1024.0, 0);
    // From 1023.95 on it would round to 1024.0.
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// Milliseconds as the two largest units that say something: `850ms`, `12.3s`, `4m05s`, `1h02m`, `3d04h`.
pub fn duration(ms: u64) -> String {
    let s = ms / 1000;
    match s {
        0 => format!("{ms}ms"),
        1..60 => format!("{s}.{}s", ms % 1000 / 100),
        60..3_600 => format!("{}m{:02}s", s / 60, s % 60),
        3_600..86_400 => format!("{}h{:02}m", s / 3_600, s % 3_600 / 60),
        _ => format!("{}d{:02}h", s / 86_400, s % 86_400 / 3_600),
    }
}

/// The first few of them, and that there are more.
pub fn some(all: &[String]) -> String {
    const NAMED: usize = 5;
    let more = if all.len() > NAMED { ", …" } else { "" };
    format!("{}{more}", all.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", "))
}

/// Microseconds as `85µs` or `1.2ms`; a dash for what nobody measured.
pub fn micros(us: u32) -> String {
    match us {
        0 => "-".to_owned(),
        1..1000 => format!("{us}µs"),
        _ => format!("{:.1}ms", f64::from(us) / 1000.0),
    }
}

/// The time between `then` (RFC 3339) and `now`, either way around, and whether `then` is past; `None` for no time.
pub fn apart(then: &str, now: jiff::Timestamp) -> Option<(String, bool)> {
    let then: jiff::Timestamp = then.parse().ok()?;
    let ms = now.as_millisecond() - then.as_millisecond();
    Some((duration(ms.unsigned_abs()), ms >= 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_rounded_to_their_unit() {
        for (n, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            ((1 << 20) - 1, "1.0 MiB"),
            (3 << 20, "3.0 MiB"),
            (u64::MAX, "16384.0 PiB"),
        ] {
            assert_eq!(bytes(n), text);
        }
    }

    #[test]
    fn durations_keep_two_units() {
        for (ms, text) in [
            (0, "0ms"),
            (999, "999ms"),
            (12_345, "12.3s"),
            (245_000, "4m05s"),
            (3_720_000, "1h02m"),
            (273_600_000, "3d04h"),
        ] {
            assert_eq!(duration(ms), text);
        }
    }

    #[test]
    fn apart_tells_past_from_future() {
        let now: jiff::Timestamp = "2026-01-01T00:00:10Z".parse().unwrap();
        assert_eq!(apart("2026-01-01T00:00:00.000Z", now), Some(("10.0s".to_owned(), true)));
        assert_eq!(apart("2026-01-01T01:00:10Z", now), Some(("1h00m".to_owned(), false)));
        assert_eq!(apart("", now), None);
    }
}
