//! L4 authorization policies: Istio's `security.istio.io` AuthorizationPolicy as its ambient mesh sends it to node
//! proxies (`istio.security.Authorization`), and PeerAuthentication once it is turned into such policies.

mod evaluate;
mod index;

pub use evaluate::Connection;
pub use index::PolicyIndex;

use crate::Name;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A policy's key, `<namespace>/<name>`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PolicyKey {
    /// The namespace.
    pub namespace: Name,
    /// The name.
    pub name: Name,
}

impl fmt::Display for PolicyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Why a string is not a policy key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a policy key of the form <namespace>/<name>")]
pub struct NotAPolicyKey(pub String);

impl std::str::FromStr for PolicyKey {
    type Err = NotAPolicyKey;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        match s.split_once('/') {
            Some((namespace, name)) if !name.is_empty() => {
                Ok(Self { namespace: namespace.into(), name: name.into() })
            }
            _ => Err(NotAPolicyKey(s.chars().take(256).collect())),
        }
    }
}

impl Serialize for PolicyKey {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PolicyKey {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let s = std::borrow::Cow::<'de, str>::deserialize(d)?;
        s.parse().map_err(serde::de::Error::custom)
    }
}

/// Which workloads a policy holds for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum PolicyScope {
    /// Every workload (a policy of the root namespace without a selector).
    Global,
    /// Every workload of the policy's namespace.
    Namespace,
    /// The workloads that name it in `Workload::policies`.
    Selector,
}

/// What a match means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Action {
    /// Allow; where any ALLOW policy holds for a workload, what none of them matches is refused.
    Allow,
    /// Refuse, before any ALLOW is looked at.
    Deny,
}

/// How one string is compared.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum StringMatch {
    /// The whole string.
    Exact(Name),
    /// Its beginning (`shop-*`).
    Prefix(Name),
    /// Its end (`*/sa/web`).
    Suffix(Name),
    /// Any non-empty string (`*`).
    Presence,
}

/// A service account, as `source.serviceAccounts` names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ServiceAccountMatch {
    /// Its namespace.
    pub namespace: Name,
    /// Its name.
    pub service_account: Name,
}

/// One match: every list that is not empty must hold. A positive list holds when any entry matches, a `not_` list when
/// none does. An entirely empty match holds for everything, as in ztunnel's evaluation of Istio's `Match` message.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Match {
    /// Namespaces of the client's identity.
    pub namespaces: Vec<StringMatch>,
    /// Negation of the above.
    pub not_namespaces: Vec<StringMatch>,
    /// Service accounts of the client's identity.
    pub service_accounts: Vec<ServiceAccountMatch>,
    /// Negation of the above.
    pub not_service_accounts: Vec<ServiceAccountMatch>,
    /// Principals (`<trust domain>/ns/<ns>/sa/<sa>`, no scheme) of the client.
    pub principals: Vec<StringMatch>,
    /// Negation of the above.
    pub not_principals: Vec<StringMatch>,
    /// The client's address.
    pub source_ips: Vec<IpNet>,
    /// Negation of the above.
    pub not_source_ips: Vec<IpNet>,
    /// The address connected to.
    pub destination_ips: Vec<IpNet>,
    /// Negation of the above.
    pub not_destination_ips: Vec<IpNet>,
    /// The port connected to.
    pub destination_ports: Vec<u16>,
    /// Negation of the above.
    pub not_destination_ports: Vec<u16>,
}

/// A clause (one `from`, `to` or `when` of an Istio rule): it holds when any of its matches does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Clause {
    /// The alternatives.
    pub matches: Vec<Match>,
}

/// A rule: it holds when all its clauses do. A rule without clauses holds for everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Rule {
    /// The clauses.
    pub clauses: Vec<Clause>,
}

/// A policy: it matches when any of its rules holds; a policy without rules never matches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// Its key.
    pub key: PolicyKey,
    /// The workloads it holds for.
    pub scope: PolicyScope,
    /// What a match means.
    pub action: Action,
    /// Only record what it would do (`istio.io/dry-run`).
    pub dry_run: bool,
    /// The rules.
    pub rules: Vec<Rule>,
}
