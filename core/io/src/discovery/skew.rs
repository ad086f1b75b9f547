//! Which version the other side is of, and whether two versions are meant to work together.

use serde::Serialize;

/// The version of this program.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// What an agent calls itself to control.
pub const AGENT: &str = "weft-agent";
/// What control calls itself to agents.
pub const CONTROL: &str = "weft-control";
/// What is longer is no version.
const LONGEST: usize = 64;

/// How far two versions are apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Skew {
    /// They are meant to work together: their minor versions are the same or neighbours.
    Supported,
    /// More than one minor version lies between them: they may, but nobody has tried.
    Apart,
    /// The other side is not one of ours, or does not say.
    #[default]
    Unknown,
}

/// How far apart `other` is from this program.
pub fn skew(other: &str) -> Skew {
    between(VERSION, other)
}

fn between(own: &str, other: &str) -> Skew {
    match (parts(own), parts(other)) {
        (Some((major, own)), Some((same, other))) if major == same && own.abs_diff(other) <= 1 => {
            Skew::Supported
        }
        (Some(_), Some(_)) => Skew::Apart,
        _ => Skew::Unknown,
    }
}

/// Major and minor version.
fn parts(version: &str) -> Option<(u32, u32)> {
    if version.len() > LONGEST {
        return None;
    }
    let release = version.split(['-', '+']).next()?;
    let numbers: Vec<u32> = release.split('.').map(|n| n.parse().ok()).collect::<Option<_>>()?;
    match numbers[..] {
        [major, minor, _patch] => Some((major, minor)),
        _ => None,
    }
}

/// The version in what a control plane calls itself; `None` where it is not one of ours.
pub fn of_control(identifier: &str) -> Option<&str> {
    let version = identifier.strip_prefix(CONTROL)?.strip_prefix('/')?;
    parts(version).map(|_| version)
}

/// The version of an agent that calls itself so; `None` where it is not one of ours.
pub fn of_agent<'a>(name: &str, version: &'a str) -> Option<&'a str> {
    (name == AGENT && parts(version).is_some()).then_some(version)
}

/// What control calls itself.
pub fn control_identifier() -> String {
    format!("{CONTROL}/{VERSION}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbouring_minor_versions_go_together_and_others_do_not() {
        for (other, skew) in [
            ("1.4.0", Skew::Supported),
            ("1.3.9", Skew::Supported),
            ("1.5.0-rc.1+build", Skew::Supported),
            ("1.6.0", Skew::Apart),
            ("1.2.7", Skew::Apart),
            ("2.4.0", Skew::Apart),
            ("0.4.0", Skew::Apart),
            ("1.4", Skew::Unknown),
            ("v1.4.0", Skew::Unknown),
            ("1.4.x", Skew::Unknown),
            ("1.99999999999.0", Skew::Unknown),
            ("", Skew::Unknown),
            ("latest", Skew::Unknown),
        ] {
            assert_eq!(between("1.4.2", other), skew, "{other}");
        }
        assert_eq!(between("1.4.2", &format!("1.4.0-{}", "x".repeat(LONGEST))), Skew::Unknown);
        assert_eq!(skew(VERSION), Skew::Supported);
    }

    #[test]
    fn only_our_own_programs_have_versions_to_compare() {
        assert_eq!(of_control(&control_identifier()), Some(VERSION));
        for identifier in [r#"{"Component":"istiod"}"#, "weft-control", "weft-control/next", ""] {
            assert_eq!(of_control(identifier), None, "{identifier}");
        }
        assert_eq!(of_agent(AGENT, "0.2.0"), Some("0.2.0"));
        assert_eq!(of_agent("ztunnel", "0.2.0"), None);
        assert_eq!(of_agent(AGENT, "unknown"), None);
    }
}
