//! `baggage` (W3C): what the sender's workload is called.

use std::{borrow::Cow, fmt, str::FromStr};
use weft_model::Name;

/// The longest value, in bytes, and the most members (W3C Baggage, section 3.3).
const LONGEST: usize = 8192;
const MOST_MEMBERS: usize = 180;

const CLUSTER: &str = "k8s.cluster.name";
const NAMESPACE: &str = "k8s.namespace.name";
const SERVICE: &str = "service.name";
const REVISION: &str = "service.version";
/// The kinds of workload that Istio's proxies name, each as `k8s.<kind>.name`.
const KINDS: [&str; 6] = ["deployment", "daemonset", "statefulset", "cronjob", "job", "pod"];

/// The workload's names that Istio's proxies send along; empty where the sender gave none.
///
/// They are the sender's words: good for telemetry, never for policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Baggage {
    /// The cluster.
    pub cluster: Name,
    /// The Kubernetes namespace.
    pub namespace: Name,
    /// The workload's kind in lower case (`deployment`, `pod`, …).
    pub kind: Name,
    /// The workload's name.
    pub workload: Name,
    /// The canonical service.
    pub service: Name,
    /// The canonical revision.
    pub revision: Name,
}

/// Why a `baggage` value cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadBaggage {
    /// It is longer than the standard asks anyone to take.
    #[error("the baggage header is longer than {LONGEST} bytes or {MOST_MEMBERS} members")]
    TooLong,
    /// A member is not `key=value`.
    #[error("a member of the baggage header is not `key=value`")]
    Malformed,
    /// A value's percent-encoding does not yield UTF-8.
    #[error("a value of the baggage header is not percent-encoded UTF-8")]
    BadEncoding,
}

impl FromStr for Baggage {
    type Err = BadBaggage;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        if s.len() > LONGEST || s.split(',').nth(MOST_MEMBERS).is_some() {
            return Err(BadBaggage::TooLong);
        }
        let mut baggage = Self::default();
        for member in s.split(',').map(str::trim).filter(|member| !member.is_empty()) {
            // Properties after `;` are metadata that nobody here asks for.
            let pair = member.split(';').next().unwrap_or_default();
            let (key, value) = pair.split_once('=').ok_or(BadBaggage::Malformed)?;
            let (key, value) = (key.trim(), value.trim());
            if key.is_empty() {
                return Err(BadBaggage::Malformed);
            }
            baggage.set(key, &decode(value)?);
        }
        Ok(baggage)
    }
}

impl Baggage {
    fn set(&mut self, key: &str, value: &str) {
        let field = match key {
            CLUSTER => &mut self.cluster,
            NAMESPACE => &mut self.namespace,
            SERVICE => &mut self.service,
            REVISION => &mut self.revision,
            _ => {
                let kind = key.strip_prefix("k8s.").and_then(|rest| rest.strip_suffix(".name"));
                let Some(kind) = kind.filter(|kind| KINDS.contains(kind)) else { return };
                self.kind = kind.into();
                &mut self.workload
            }
        };
        *field = value.into();
    }
}

impl fmt::Display for Baggage {
    /// The header's value; empty where nothing is known.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.kind.is_empty() { "pod" } else { &*self.kind };
        let workload = format!("k8s.{kind}.name");
        let members = [
            (CLUSTER, &self.cluster),
            (NAMESPACE, &self.namespace),
            (&*workload, &self.workload),
            (SERVICE, &self.service),
            (REVISION, &self.revision),
        ];
        let mut separator = "";
        for (key, value) in members.into_iter().filter(|(_, value)| !value.is_empty()) {
            write!(f, "{separator}{key}=")?;
            encode(value, f)?;
            separator = ",";
        }
        Ok(())
    }
}

fn encode(value: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for byte in value.bytes() {
        match byte {
            b'%' | b'"' | b',' | b';' | b'\\' | b'=' => write!(f, "%{byte:02X}")?,
            b'!'..=b'~' => write!(f, "{}", char::from(byte))?,
            _ => write!(f, "%{byte:02X}")?,
        }
    }
    Ok(())
}

fn decode(value: &str) -> Result<Cow<'_, str>, BadBaggage> {
    if !value.contains('%') {
        return Ok(value.into());
    }
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let (hex, after) = rest.split_at_checked(2).ok_or(BadBaggage::BadEncoding)?;
        let digit = |b: u8| char::from(b).to_digit(16).ok_or(BadBaggage::BadEncoding);
        let code = digit(hex[0])? * 16 + digit(hex[1])?;
        bytes.push(u8::try_from(code).map_err(|_| BadBaggage::BadEncoding)?);
        rest = after;
    }
    String::from_utf8(bytes).map(Cow::Owned).map_err(|_| BadBaggage::BadEncoding)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> Baggage {
        Baggage {
            cluster: "Kubernetes".into(),
            namespace: "shop".into(),
            kind: "deployment".into(),
            workload: "web-v1".into(),
            service: "web".into(),
            revision: "v1".into(),
        }
    }

    #[test]
    fn reads_what_istio_sends() {
        let value = "k8s.cluster.name=Kubernetes,k8s.namespace.name=shop,k8s.deployment.name=web-v1,\
                     service.name=web,service.version=v1";
        assert_eq!(value.parse(), Ok(full()));
        assert_eq!(full().to_string(), value);
    }

    #[test]
    fn odd_characters_survive_the_round_trip() {
        let odd = Baggage { service: "a,b;c=d \"é\" 100%".into(), ..full() };
        let value = odd.to_string();
        assert!(value.is_ascii());
        assert_eq!(value.parse(), Ok(odd));
    }

    #[test]
    fn unknown_members_and_properties_are_passed_over() {
        let parsed: Baggage = "user=me , service.name = web ;secret;x=1,,k8s.node.name=n".parse().unwrap();
        assert_eq!(parsed, Baggage { service: "web".into(), ..Baggage::default() });
        assert_eq!("".parse(), Ok(Baggage::default()));
    }

    #[test]
    fn refuses_what_is_not_one() {
        use BadBaggage::*;
        let cases = [
            ("a", Malformed),
            ("=b", Malformed),
            ("a=%", BadEncoding),
            ("a=%g0", BadEncoding),
            ("a=%ff", BadEncoding),
        ];
        for (s, why) in cases {
            assert_eq!(s.parse::<Baggage>(), Err(why), "{s}");
        }
        assert_eq!("x".repeat(LONGEST + 1).parse::<Baggage>(), Err(TooLong));
        assert_eq!("a=b,".repeat(MOST_MEMBERS).parse::<Baggage>(), Err(TooLong));
    }
}
