//! Policies, as the admin interface tells them: their rules in words.

use crate::admin::proto;
use rustc_hash::FxHashMap;
use std::fmt::Display;
use weft_model::{
    Name, Policy, PolicyKey, Snapshot,
    policy::{Action, Clause, Match, PolicyScope, Rule, StringMatch},
};

/// Every policy of `snapshot` by namespace and name, with how many workloads each holds for.
pub fn policies(snapshot: &Snapshot) -> Vec<proto::Policy> {
    let (mut all, mut by_namespace, mut selected) = (0, FxHashMap::default(), FxHashMap::default());
    for w in snapshot.workloads() {
        all += 1;
        *by_namespace.entry(w.namespace.clone()).or_default() += 1;
        for key in &w.policies {
            *selected.entry(key.clone()).or_default() += 1;
        }
    }
    let holds = Holds { all, by_namespace, selected };
    let mut policies: Vec<_> = snapshot.policies().map(|p| policy(p, holds.count(p))).collect();
    policies.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    policies
}

/// How many workloads there are, by what policies choose them by.
struct Holds {
    all: u64,
    by_namespace: FxHashMap<Name, u64>,
    selected: FxHashMap<PolicyKey, u64>,
}

impl Holds {
    fn count(&self, p: &Policy) -> u64 {
        match p.scope {
            PolicyScope::Global => self.all,
            PolicyScope::Namespace => self.by_namespace.get(&p.key.namespace).copied().unwrap_or(0),
            PolicyScope::Selector => self.selected.get(&p.key).copied().unwrap_or(0),
        }
    }
}

fn policy(p: &Policy, workloads: u64) -> proto::Policy {
    proto::Policy {
        namespace: p.key.namespace.to_string(),
        name: p.key.name.to_string(),
        action: action(p.action).to_owned(),
        scope: match p.scope {
            PolicyScope::Global => "global",
            PolicyScope::Namespace => "namespace",
            PolicyScope::Selector => "selector",
        }
        .to_owned(),
        dry_run: p.dry_run,
        workloads,
        rules: p.rules.iter().map(rule).collect(),
    }
}

/// The action's name in AuthorizationPolicy.
pub fn action(a: Action) -> &'static str {
    match a {
        Action::Allow => "ALLOW",
        Action::Deny => "DENY",
    }
}

fn rule(r: &Rule) -> String {
    match r.clauses.is_empty() {
        true => "everything".to_owned(),
        false => r.clauses.iter().map(clause).collect::<Vec<_>>().join(", and "),
    }
}

fn clause(c: &Clause) -> String {
    match &c.matches[..] {
        [] => "nothing".to_owned(),
        matches => matches.iter().map(one).collect::<Vec<_>>().join(" or "),
    }
}

fn one(m: &Match) -> String {
    let mut parts = Vec::new();
    both(&mut parts, "principal", &m.principals, &m.not_principals, text);
    both(&mut parts, "namespace", &m.namespaces, &m.not_namespaces, text);
    both(&mut parts, "service account", &m.service_accounts, &m.not_service_accounts, |s| {
        format!("{}/{}", s.namespace, s.service_account)
    });
    both(&mut parts, "source", &m.source_ips, &m.not_source_ips, ToString::to_string);
    both(&mut parts, "destination", &m.destination_ips, &m.not_destination_ips, ToString::to_string);
    both(&mut parts, "port", &m.destination_ports, &m.not_destination_ports, u16::to_string);
    match parts.is_empty() {
        true => "anyone".to_owned(),
        false => parts.join(" and "),
    }
}

fn both<T, S: Display>(
    parts: &mut Vec<String>,
    what: &str,
    positive: &[T],
    negative: &[T],
    say: impl Fn(&T) -> S,
) {
    let list = |of: &[T]| of.iter().map(|v| say(v).to_string()).collect::<Vec<_>>().join("|");
    if !positive.is_empty() {
        parts.push(format!("{what} {}", list(positive)));
    }
    if !negative.is_empty() {
        parts.push(format!("{what} not {}", list(negative)));
    }
}

fn text(m: &StringMatch) -> String {
    match m {
        StringMatch::Exact(s) => s.to_string(),
        StringMatch::Prefix(s) => format!("{s}*"),
        StringMatch::Suffix(s) => format!("*{s}"),
        StringMatch::Presence => "*".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_read_as_sentences() {
        let from = Match {
            principals: vec![StringMatch::Exact("cluster.local/ns/shop/sa/web".into())],
            not_source_ips: vec!["10.0.0.0/8".parse().unwrap()],
            ..Match::default()
        };
        let other = Match { namespaces: vec![StringMatch::Prefix("shop-".into())], ..Match::default() };
        let to = Match { destination_ports: vec![80, 443], ..Match::default() };
        let r = Rule { clauses: vec![Clause { matches: vec![from, other] }, Clause { matches: vec![to] }] };
        assert_eq!(
            rule(&r),
            "principal cluster.local/ns/shop/sa/web and source not 10.0.0.0/8 or namespace shop-*, and port 80|443"
        );
        assert_eq!(rule(&Rule::default()), "everything");
        assert_eq!(rule(&Rule { clauses: vec![Clause::default()] }), "nothing");
    }
}
