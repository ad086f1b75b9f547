//! `traceparent` (W3C Trace Context): which trace a connection belongs to.

use std::{fmt, str::FromStr};

/// A position in a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Traceparent {
    /// The trace; never zero.
    pub trace_id: u128,
    /// The span that is this one's parent; never zero.
    pub parent_id: u64,
    /// The flags; bit 0 says that the caller records.
    pub flags: u8,
}

impl Traceparent {
    /// The beginning of a new trace, by random numbers, that nobody has decided to record.
    pub fn new(trace_id: u128, parent_id: u64) -> Self {
        // Zero is forbidden in either.
        Self { trace_id: trace_id.max(1), parent_id: parent_id.max(1), flags: 0 }
    }
}

/// The value is not a `traceparent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the traceparent header is malformed")]
pub struct BadTraceparent;

impl fmt::Display for Traceparent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace_id, self.parent_id, self.flags)
    }
}

impl FromStr for Traceparent {
    type Err = BadTraceparent;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let mut parts = s.splitn(5, '-');
        let mut hex = |digits: usize| {
            let part = parts.next().filter(|part| part.len() == digits)?;
            let lower = part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
            lower.then(|| u128::from_str_radix(part, 16).ok()).flatten()
        };
        let version = hex(2).ok_or(BadTraceparent)?;
        let trace_id = hex(32).filter(|id| *id != 0).ok_or(BadTraceparent)?;
        let parent_id = hex(16).and_then(|id| u64::try_from(id).ok()).filter(|id| *id != 0);
        let flags = hex(2).and_then(|flags| u8::try_from(flags).ok()).ok_or(BadTraceparent)?;
        // Version 255 is forbidden; version 0 ends here, later ones may go on.
        if version == 0xff || (version == 0 && parts.next().is_some()) {
            return Err(BadTraceparent);
        }
        Ok(Self { trace_id, parent_id: parent_id.ok_or(BadTraceparent)?, flags })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn round_trips() {
        let parsed: Traceparent = EXAMPLE.parse().unwrap();
        assert_eq!(parsed.trace_id, 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736);
        assert_eq!(parsed.parent_id, 0x00f0_67aa_0ba9_02b7);
        assert_eq!(parsed.flags, 1);
        assert_eq!(parsed.to_string(), EXAMPLE);
        assert!(format!("cc{}-more", &EXAMPLE[2..]).parse::<Traceparent>().is_ok());
    }

    #[test]
    fn refuses_what_is_not_one() {
        let zero_trace = format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32));
        let zero_parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01".to_owned();
        let cases = [
            String::new(),
            "00".into(),
            zero_trace,
            zero_parent,
            EXAMPLE.to_uppercase(),
            format!("{EXAMPLE}-more"),
            format!("ff{}", &EXAMPLE[2..]),
            EXAMPLE.replace("-01", "-1"),
            EXAMPLE.replace("-01", "-+1"),
        ];
        for s in cases {
            assert_eq!(s.parse::<Traceparent>(), Err(BadTraceparent), "{s}");
        }
    }
}
