//! Policies.

use super::field::{self, FieldError};
use crate::discovery::proto::security as wire;
use ipnet::IpNet;
use weft_model::{
    Policy, PolicyKey,
    policy::{Action, Clause, Match, PolicyScope, Rule, ServiceAccountMatch, StringMatch},
};
use wire::string_match::MatchType;

pub(super) fn from_wire(a: wire::Authorization) -> Result<Policy, FieldError> {
    let scope = match field::enumeration("scope", a.scope)? {
        wire::Scope::Global => PolicyScope::Global,
        wire::Scope::Namespace => PolicyScope::Namespace,
        wire::Scope::WorkloadSelector => PolicyScope::Selector,
    };
    let action = match field::enumeration("action", a.action)? {
        wire::Action::Allow => Action::Allow,
        wire::Action::Deny => Action::Deny,
    };
    Ok(Policy {
        key: PolicyKey {
            namespace: field::key_part("namespace", a.namespace)?,
            name: field::key_part("name", a.name)?,
        },
        scope,
        action,
        dry_run: a.dry_run,
        rules: each(a.groups, rule)?,
    })
}

fn each<A, B>(items: Vec<A>, f: impl Fn(A) -> Result<B, FieldError>) -> Result<Vec<B>, FieldError> {
    items.into_iter().map(f).collect()
}

fn rule(g: wire::Group) -> Result<Rule, FieldError> {
    Ok(Rule { clauses: each(g.rules, |r| Ok(Clause { matches: each(r.matches, match_)? }))? })
}

fn match_(m: wire::Match) -> Result<Match, FieldError> {
    Ok(Match {
        namespaces: each(m.namespaces, |s| string("namespaces", s))?,
        not_namespaces: each(m.not_namespaces, |s| string("not_namespaces", s))?,
        service_accounts: each(m.service_accounts, |s| account("service_accounts", s))?,
        not_service_accounts: each(m.not_service_accounts, |s| account("not_service_accounts", s))?,
        principals: each(m.principals, |s| string("principals", s))?,
        not_principals: each(m.not_principals, |s| string("not_principals", s))?,
        source_ips: each(m.source_ips, |a| network("source_ips", &a))?,
        not_source_ips: each(m.not_source_ips, |a| network("not_source_ips", &a))?,
        destination_ips: each(m.destination_ips, |a| network("destination_ips", &a))?,
        not_destination_ips: each(m.not_destination_ips, |a| network("not_destination_ips", &a))?,
        destination_ports: each(m.destination_ports, |p| field::port("destination_ports", p))?,
        not_destination_ports: each(m.not_destination_ports, |p| field::port("not_destination_ports", p))?,
    })
}

fn string(field: &'static str, s: wire::StringMatch) -> Result<StringMatch, FieldError> {
    Ok(match s.match_type.ok_or(FieldError::missing(field))? {
        MatchType::Exact(s) => StringMatch::Exact(s.into()),
        MatchType::Prefix(s) => StringMatch::Prefix(s.into()),
        MatchType::Suffix(s) => StringMatch::Suffix(s.into()),
        MatchType::Presence(()) => StringMatch::Presence,
    })
}

fn account(field: &'static str, s: wire::ServiceAccountMatch) -> Result<ServiceAccountMatch, FieldError> {
    Ok(ServiceAccountMatch {
        namespace: field::required(field, s.namespace)?,
        service_account: field::required(field, s.service_account)?,
    })
}

fn network(field: &'static str, a: &wire::Address) -> Result<IpNet, FieldError> {
    field::network(field, &a.address, a.length)
}

pub(super) fn to_wire(p: &Policy) -> wire::Authorization {
    wire::Authorization {
        name: p.key.name.to_string(),
        namespace: p.key.namespace.to_string(),
        scope: match p.scope {
            PolicyScope::Global => wire::Scope::Global,
            PolicyScope::Namespace => wire::Scope::Namespace,
            PolicyScope::Selector => wire::Scope::WorkloadSelector,
        }
        .into(),
        action: match p.action {
            Action::Allow => wire::Action::Allow,
            Action::Deny => wire::Action::Deny,
        }
        .into(),
        groups: p.rules.iter().map(to_group).collect(),
        dry_run: p.dry_run,
    }
}

fn to_group(r: &Rule) -> wire::Group {
    let rules = |c: &Clause| wire::Rules { matches: c.matches.iter().map(to_match).collect() };
    wire::Group { rules: r.clauses.iter().map(rules).collect() }
}

fn to_match(m: &Match) -> wire::Match {
    let ports = |p: &[u16]| p.iter().map(|p| u32::from(*p)).collect();
    wire::Match {
        namespaces: m.namespaces.iter().map(to_string).collect(),
        not_namespaces: m.not_namespaces.iter().map(to_string).collect(),
        service_accounts: m.service_accounts.iter().map(to_account).collect(),
        not_service_accounts: m.not_service_accounts.iter().map(to_account).collect(),
        principals: m.principals.iter().map(to_string).collect(),
        not_principals: m.not_principals.iter().map(to_string).collect(),
        source_ips: m.source_ips.iter().map(to_network).collect(),
        not_source_ips: m.not_source_ips.iter().map(to_network).collect(),
        destination_ips: m.destination_ips.iter().map(to_network).collect(),
        not_destination_ips: m.not_destination_ips.iter().map(to_network).collect(),
        destination_ports: ports(&m.destination_ports),
        not_destination_ports: ports(&m.not_destination_ports),
    }
}

fn to_string(s: &StringMatch) -> wire::StringMatch {
    wire::StringMatch {
        match_type: Some(match s {
            StringMatch::Exact(s) => MatchType::Exact(s.to_string()),
            StringMatch::Prefix(s) => MatchType::Prefix(s.to_string()),
            StringMatch::Suffix(s) => MatchType::Suffix(s.to_string()),
            StringMatch::Presence => MatchType::Presence(()),
        }),
    }
}

fn to_account(s: &ServiceAccountMatch) -> wire::ServiceAccountMatch {
    wire::ServiceAccountMatch {
        namespace: s.namespace.to_string(),
        service_account: s.service_account.to_string(),
    }
}

fn to_network(n: &IpNet) -> wire::Address {
    wire::Address { address: field::ip_bytes(n.addr()), length: n.prefix_len().into() }
}
