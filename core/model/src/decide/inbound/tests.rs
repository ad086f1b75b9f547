use super::*;
use crate::{
    Delta, Identity, Policy, SnapshotStore,
    policy::{Action, Clause, Match, PolicyScope, Rule, StringMatch},
};

fn policy(name: &str, scope: PolicyScope, action: Action, matches: Option<Match>) -> Policy {
    let (namespace, name) = name.split_once('/').unwrap();
    Policy {
        key: PolicyKey { namespace: namespace.into(), name: name.into() },
        scope,
        action,
        dry_run: false,
        rules: matches.into_iter().map(|m| Rule { clauses: vec![Clause { matches: vec![m] }] }).collect(),
    }
}

fn principal(p: &str) -> Option<Match> {
    Some(Match { principals: vec![StringMatch::Exact(p.into())], ..Match::default() })
}

fn everyone() -> Option<Match> {
    Some(Match::default())
}

fn ask(policies: Vec<Policy>, client: Option<&str>) -> Verdict {
    let mut workload = Workload::new("uid", "shop", "catalog-0", "catalog");
    workload.policies =
        policies.iter().filter(|p| p.scope == PolicyScope::Selector).map(|p| p.key.clone()).collect();
    let store = SnapshotStore::default();
    store.apply(vec![Delta::Workload(Box::new(workload))]);
    store.apply(policies.into_iter().map(Delta::Policy).collect());
    let id: Option<Identity> = client.map(|c| c.parse().unwrap());
    let c = Connection {
        identity: id.as_ref(),
        source_ip: "10.0.0.1".parse().unwrap(),
        destination_ip: "10.0.0.2".parse().unwrap(),
        destination_port: 80,
    };
    let snapshot = store.load();
    inbound(&snapshot, snapshot.workload("uid").unwrap(), &c)
}

const WEB: Option<&str> = Some("spiffe://cluster.local/ns/shop/sa/web");

fn decided(v: &Verdict) -> Option<String> {
    v.policy.as_ref().map(ToString::to_string)
}

#[test]
fn without_policies_all_is_allowed() {
    let v = ask(vec![], None);
    assert!(v.is_allowed());
    assert_eq!(v.policy, None);
}

#[test]
fn an_allow_policy_refuses_the_rest() {
    let allow_web = || {
        policy("shop/web", PolicyScope::Selector, Action::Allow, principal("cluster.local/ns/shop/sa/web"))
    };
    let v = ask(vec![allow_web()], WEB);
    assert_eq!((v.refused, decided(&v)), (None, Some("shop/web".into())));
    let v = ask(vec![allow_web()], Some("spiffe://cluster.local/ns/shop/sa/other"));
    assert_eq!((v.refused, decided(&v)), (Some(Reason::PolicyDenied), None));
    assert_eq!(ask(vec![allow_web()], None).refused, Some(Reason::PolicyDenied));
}

#[test]
fn an_allow_policy_without_rules_refuses_everyone() {
    let v = ask(vec![policy("shop/nothing", PolicyScope::Namespace, Action::Allow, None)], WEB);
    assert_eq!(v.refused, Some(Reason::PolicyDenied));
}

#[test]
fn deny_wins_over_allow_whatever_the_scope() {
    for scope in [PolicyScope::Global, PolicyScope::Namespace, PolicyScope::Selector] {
        let policies = vec![
            policy("shop/all", PolicyScope::Selector, Action::Allow, everyone()),
            policy("shop/no", scope, Action::Deny, everyone()),
        ];
        let v = ask(policies, WEB);
        assert_eq!((v.refused, decided(&v)), (Some(Reason::PolicyDenied), Some("shop/no".into())));
    }
}

#[test]
fn policies_of_another_namespace_do_not_hold() {
    assert!(ask(vec![policy("bank/no", PolicyScope::Namespace, Action::Deny, everyone())], WEB).is_allowed());
}

#[test]
fn strict_mutual_tls_refuses_plaintext_in_its_own_words() {
    let strict = || {
        let m = Match { not_principals: vec![StringMatch::Presence], ..Match::default() };
        policy("shop/strict", PolicyScope::Namespace, Action::Deny, Some(m))
    };
    assert_eq!(ask(vec![strict()], None).refused, Some(Reason::PlaintextRefused));
    assert!(ask(vec![strict()], WEB).is_allowed());
    let deny_all = policy("shop/no", PolicyScope::Namespace, Action::Deny, everyone());
    assert_eq!(ask(vec![deny_all], None).refused, Some(Reason::PolicyDenied));
}

#[test]
fn a_dry_run_is_told_and_changes_nothing() {
    let mut dry = policy("shop/dry", PolicyScope::Namespace, Action::Deny, everyone());
    dry.dry_run = true;
    let v = ask(vec![dry.clone()], WEB);
    assert!(v.is_allowed());
    assert_eq!(v.dry_run, Some(dry.key.clone()));
    dry.action = Action::Allow;
    assert!(ask(vec![dry], None).is_allowed(), "an ALLOW in dry run must not refuse what it does not match");
}
