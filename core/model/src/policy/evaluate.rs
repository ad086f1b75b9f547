//! Whether a policy matches a connection: the plain definition, that the index must agree with.

use super::{Action, Match, Policy, Rule, StringMatch};
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
    /// Whether this is what STRICT mutual TLS becomes on the wire: it refuses whoever has no principal at all.
    pub fn demands_mutual_tls(&self) -> bool {
        let mut matches = self.rules.iter().flat_map(|r| &r.clauses).flat_map(|c| &c.matches);
        self.action == Action::Deny && matches.any(|m| m.not_principals.contains(&StringMatch::Presence))
    }

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
            && holds(&self.principals, &self.not_principals, |m| m.matches_principal(id))
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

    /// Whether `identity`'s principal matches, without writing the principal out.
    fn matches_principal(&self, identity: Option<&Identity>) -> bool {
        let Some(id) = identity else { return false };
        let parts = [&*id.trust_domain, "/ns/", &*id.namespace, "/sa/", &*id.service_account];
        match self {
            StringMatch::Exact(e) => {
                parts.iter().try_fold(&**e, |rest, part| rest.strip_prefix(part)) == Some("")
            }
            StringMatch::Prefix(p) => covers(parts.into_iter(), p, |part, sought| {
                if sought.len() <= part.len() {
                    Err(part.starts_with(sought))
                } else {
                    Ok(sought.strip_prefix(part))
                }
            }),
            StringMatch::Suffix(p) => covers(parts.into_iter().rev(), p, |part, sought| {
                if sought.len() <= part.len() {
                    Err(part.ends_with(sought))
                } else {
                    Ok(sought.strip_suffix(part))
                }
            }),
            StringMatch::Presence => true,
        }
    }
}

/// Whether the text that `parts` make when joined covers `sought` from its first part on. For each part, `step` says
/// either that the answer is known, or what is left to seek in the parts that follow.
fn covers<'s>(
    mut parts: impl Iterator<Item = &'s str>,
    sought: &'s str,
    step: impl Fn(&'s str, &'s str) -> Result<Option<&'s str>, bool>,
) -> bool {
    let end = parts.try_fold(sought, |sought, part| step(part, sought)?.ok_or(false));
    end.map_or_else(|known| known, str::is_empty)
}

#[cfg(test)]
mod tests;
