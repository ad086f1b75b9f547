//! Whether a policy matches a connection: the plain definition, that the index must agree with.

use super::{Match, Policy, Rule, StringMatch};
use crate::Identity;
use std::net::IpAddr;

/// What a policy sees of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Connection<'a> {
    /// The client's authenticated identity; `None` for plaintext.
    pub identity: Option<&'a Identity>,
    /// The client's address.
    pub source_ip: IpAddr,
    /// The address connected to.
    pub destination_ip: IpAddr,
    /// The port connected to.
    pub destination_port: u16,
}

impl Policy {
    /// Whether any rule holds for `c`.
    pub fn matches(&self, c: &Connection<'_>) -> bool {
        self.rules.iter().any(|r| r.matches(c))
    }
}

impl Rule {
    /// Whether every clause holds for `c`.
    pub fn matches(&self, c: &Connection<'_>) -> bool {
        self.clauses.iter().all(|clause| clause.matches.iter().any(|m| m.matches(c)))
    }
}

impl Match {
    /// Whether every list of this match holds for `c`.
    pub fn matches(&self, c: &Connection<'_>) -> bool {
        let id = c.identity;
        let namespace = id.map(|i| &*i.namespace);
        holds(&self.destination_ports, &self.not_destination_ports, |p| *p == c.destination_port)
            && holds(&self.source_ips, &self.not_source_ips, |n| n.contains(&c.source_ip))
            && holds(&self.destination_ips, &self.not_destination_ips, |n| n.contains(&c.destination_ip))
            && holds(&self.namespaces, &self.not_namespaces, |m| m.matches(namespace))
            && holds(&self.service_accounts, &self.not_service_accounts, |s| {
                id.is_some_and(|i| i.namespace == s.namespace && i.service_account == s.service_account)
            })
            && (self.principals.is_empty() && self.not_principals.is_empty() || {
                let principal = id.map(|i| i.principal());
                holds(&self.principals, &self.not_principals, |m| m.matches(principal.as_deref()))
            })
    }
}

fn holds<T>(positive: &[T], negative: &[T], matches: impl Fn(&T) -> bool) -> bool {
    (positive.is_empty() || positive.iter().any(&matches)) && !negative.iter().any(matches)
}

impl StringMatch {
    /// Whether `s` matches. A missing value matches nothing.
    pub fn matches(&self, s: Option<&str>) -> bool {
        let Some(s) = s else { return false };
        match self {
            StringMatch::Exact(e) => **e == *s,
            StringMatch::Prefix(p) => s.starts_with(&**p),
            StringMatch::Suffix(p) => s.ends_with(&**p),
            StringMatch::Presence => !s.is_empty(),
        }
    }
}
