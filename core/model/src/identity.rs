//! Workload identities: SPIFFE IDs in the form that Kubernetes meshes use.

use crate::Name;
use serde::{Deserialize, Serialize, Serializer};
use std::{fmt, str::FromStr};

/// A workload identity, `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`.
///
/// The form is Istio's (and so ztunnel's) reading of the SPIFFE ID specification.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity {
    /// The trust domain, `cluster.local` unless configured.
    pub trust_domain: Name,
    /// The Kubernetes namespace.
    pub namespace: Name,
    /// The Kubernetes service account.
    pub service_account: Name,
}

impl Identity {
    /// The identity of `service_account` in `namespace`.
    pub fn new(
        trust_domain: impl Into<Name>,
        namespace: impl Into<Name>,
        service_account: impl Into<Name>,
    ) -> Self {
        Self {
            trust_domain: trust_domain.into(),
            namespace: namespace.into(),
            service_account: service_account.into(),
        }
    }

    /// The identity without the scheme: `<trust domain>/ns/<namespace>/sa/<service account>`, the form in which Istio's
    /// AuthorizationPolicy names principals.
    pub fn principal(&self) -> String {
        format!("{}/ns/{}/sa/{}", self.trust_domain, self.namespace, self.service_account)
    }
}

/// The longest name of a trust domain, in bytes (SPIFFE ID, section 2.1).
const LONGEST_TRUST_DOMAIN: usize = 255;

/// Whether `s` can be the name of a trust domain: lower-case letters, digits, `.`, `-` and `_` (SPIFFE ID, section 2.1).
pub fn is_trust_domain(s: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'_');
    s.len() <= LONGEST_TRUST_DOMAIN && is_segment(s) && s.bytes().all(allowed)
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "spiffe://{}/ns/{}/sa/{}", self.trust_domain, self.namespace, self.service_account)
    }
}

/// Why a string is not an identity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an identity of the form spiffe://<trust domain>/ns/<namespace>/sa/<service account>")]
pub struct NotAnIdentity(pub String);

impl FromStr for Identity {
    type Err = NotAnIdentity;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let parts = s.strip_prefix("spiffe://").map(|rest| rest.split('/').collect::<Vec<_>>());
        match parts.as_deref() {
            Some([td, "ns", ns, "sa", sa]) if [td, ns, sa].iter().all(|p| is_segment(p)) => {
                Ok(Self::new(*td, *ns, *sa))
            }
            _ => Err(NotAnIdentity(s.chars().take(256).collect())),
        }
    }
}

/// The characters that a SPIFFE ID allows in a trust domain or a path segment.
fn is_segment(s: &str) -> bool {
    !s.is_empty()
        && s != "."
        && s != ".."
        && s.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':'))
}

impl Serialize for Identity {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Identity {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let s = std::borrow::Cow::<'de, str>::deserialize(d)?;
        s.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips() {
        let s = "spiffe://cluster.local/ns/shop/sa/web";
        let id: Identity = s.parse().unwrap();
        assert_eq!(id, Identity::new("cluster.local", "shop", "web"));
        assert_eq!(id.to_string(), s);
        assert_eq!(id.principal(), "cluster.local/ns/shop/sa/web");
    }

    #[test]
    fn refuses_what_is_not_one() {
        for s in [
            "",
            "spiffe://",
            "https://cluster.local/ns/shop/sa/web",
            "spiffe://cluster.local/ns/shop/sa/",
            "spiffe://cluster.local/ns//sa/web",
            "spiffe://cluster.local/ns/shop/sa/web/more",
            "spiffe://cluster.local/ns/../sa/web",
            "spiffe://cluster.local/ns/a%2fb/sa/web",
            "spiffe://cluster.local/sa/web/ns/shop",
        ] {
            assert!(s.parse::<Identity>().is_err(), "{s}");
        }
    }

    #[test]
    fn a_trust_domain_is_what_spiffe_says() {
        for good in ["cluster.local", "td", "a_b-c.7"] {
            assert!(is_trust_domain(good), "{good}");
        }
        let long = "a".repeat(256);
        for bad in ["", ".", "..", "Cluster.local", "a b", "a/b", "a:1", "a%2e", "wéb", &long] {
            assert!(!is_trust_domain(bad), "{bad}");
        }
    }
}
