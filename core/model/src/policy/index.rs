//! An index over policies, so that evaluation looks only at rules that can match.
//!
//! Every rule is filed once: under the exact values of its most selective clause (principals, service accounts,
//! namespaces, destination ports, blocks of source addresses), or in the list that is always looked at when it has no
//! such clause. A connection then looks up its own principal, namespace and port, and the block of each length in use
//! that its address lies in, so that ten thousand policies that name other clients cost nothing.

use super::{Clause, Connection, Match, Policy, Rule, StringMatch};
use crate::Name;
use ipnet::IpNet;
use rustc_hash::FxHashMap;
use std::{net::IpAddr, sync::Arc};

/// Policies of one action, indexed. Built once per change, immutable.
#[derive(Debug, Default)]
pub struct PolicyIndex {
    policies: Vec<Arc<Policy>>,
    always: Vec<Filed>,
    by: FxHashMap<Key, Vec<Filed>>,
    /// The prefix lengths of the blocks in `by`, of each family once.
    lengths: Lengths,
}

#[derive(Debug, Default)]
struct Lengths {
    v4: Vec<u8>,
    v6: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct Filed {
    policy: u32,
    rule: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    /// `<trust domain>/ns/<namespace>/sa/<service account>`, taken apart so that looking up needs no formatting.
    Principal(Name, Name, Name),
    ServiceAccount(Name, Name),
    Namespace(Name),
    Port(u16),
    /// Without host bits, so that equal blocks are equal keys.
    Source(IpNet),
}

impl PolicyIndex {
    /// Indexes `policies`; their order is kept as the order of preference among matches.
    pub fn new(policies: Vec<Arc<Policy>>) -> Self {
        let mut index = Self { policies, ..Self::default() };
        for (p, policy) in index.policies.iter().enumerate() {
            for (r, rule) in policy.rules.iter().enumerate() {
                let filed = Filed { policy: p as u32, rule: r as u32 };
                match keys_of(rule) {
                    Some(keys) => {
                        for key in keys {
                            if let Key::Source(block) = &key {
                                index.lengths.add(block);
                            }
                            index.by.entry(key).or_default().push(filed);
                        }
                    }
                    None => index.always.push(filed),
                }
            }
        }
        index
    }

    /// Whether it holds no policy at all.
    pub fn is_empty(&self) -> bool {
        self.policies.is_empty()
    }

    /// The policies, in order.
    pub fn policies(&self) -> &[Arc<Policy>] {
        &self.policies
    }

    /// The first policy (in the order given to [`PolicyIndex::new`]) that matches `c`.
    pub fn first_match(&self, c: &Connection<'_>) -> Option<&Arc<Policy>> {
        let mut best: Option<u32> = None;
        self.look(&self.always, c, &mut best);
        if !self.by.is_empty() {
            let mut at = |key: Key| {
                if let Some(filed) = self.by.get(&key) {
                    self.look(filed, c, &mut best);
                }
            };
            at(Key::Port(c.destination_port));
            for block in self.lengths.blocks_around(c.source_ip) {
                at(Key::Source(block));
            }
            if let Some(id) = c.identity {
                at(Key::Namespace(id.namespace.clone()));
                at(Key::ServiceAccount(id.namespace.clone(), id.service_account.clone()));
                at(Key::Principal(id.trust_domain.clone(), id.namespace.clone(), id.service_account.clone()));
            }
        }
        best.map(|p| &self.policies[p as usize])
    }

    fn look(&self, filed: &[Filed], c: &Connection<'_>, best: &mut Option<u32>) {
        for f in filed {
            if best.is_some_and(|b| b <= f.policy) {
                continue;
            }
            if self.policies[f.policy as usize].rules[f.rule as usize].matches(c) {
                *best = Some(f.policy);
            }
        }
    }
}

impl Lengths {
    fn add(&mut self, block: &IpNet) {
        let lengths = if block.addr().is_ipv4() { &mut self.v4 } else { &mut self.v6 };
        if !lengths.contains(&block.prefix_len()) {
            lengths.push(block.prefix_len());
        }
    }

    /// The blocks of the lengths in use that `ip` lies in.
    fn blocks_around(&self, ip: IpAddr) -> impl Iterator<Item = IpNet> {
        let lengths = if ip.is_ipv4() { &self.v4 } else { &self.v6 };
        lengths.iter().filter_map(move |length| Some(IpNet::new(ip, *length).ok()?.trunc()))
    }
}

/// The keys under which `rule` is filed: those of the clause that names the fewest, most telling values.
fn keys_of(rule: &Rule) -> Option<Vec<Key>> {
    rule.clauses.iter().filter_map(clause_keys).min_by_key(|keys| (keys.iter().map(weight).max(), keys.len()))
}

/// How little a key tells: ports are shared by many connections, principals by few.
fn weight(key: &Key) -> u8 {
    match key {
        Key::Principal(..) => 0,
        Key::ServiceAccount(..) => 1,
        Key::Source(block) if block.prefix_len() == 0 => 5,
        Key::Source(_) => 2,
        Key::Namespace(_) => 3,
        Key::Port(_) => 4,
    }
}

/// A clause can be filed when each of its alternatives can.
fn clause_keys(clause: &Clause) -> Option<Vec<Key>> {
    let mut keys = Vec::new();
    for m in &clause.matches {
        keys.extend(match_keys(m)?);
    }
    Some(keys)
}

fn match_keys(m: &Match) -> Option<Vec<Key>> {
    let principals = || {
        m.principals.iter().map(|p| match p {
            StringMatch::Exact(s) => principal_key(s),
            _ => None,
        })
    };
    let namespaces = || {
        m.namespaces.iter().map(|n| match n {
            StringMatch::Exact(s) => Some(Key::Namespace(s.clone())),
            _ => None,
        })
    };
    let sources = || m.source_ips.iter().map(|block| Key::Source(block.trunc())).collect::<Vec<_>>();
    let accounts = || {
        m.service_accounts
            .iter()
            .map(|s| Key::ServiceAccount(s.namespace.clone(), s.service_account.clone()))
            .collect::<Vec<_>>()
    };
    let some = |keys: Option<Vec<Key>>| keys.filter(|k| !k.is_empty());
    some(principals().collect())
        .or_else(|| some(Some(accounts())))
        .or_else(|| some(Some(sources())))
        .or_else(|| some(namespaces().collect()))
        .or_else(|| some(Some(m.destination_ports.iter().map(|p| Key::Port(*p)).collect())))
}

fn principal_key(s: &str) -> Option<Key> {
    let mut parts = s.split('/');
    match [parts.next(), parts.next(), parts.next(), parts.next(), parts.next(), parts.next()] {
        [Some(td), Some("ns"), Some(ns), Some("sa"), Some(sa), None] => {
            Some(Key::Principal(td.into(), ns.into(), sa.into()))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
