use super::*;
use crate::policy::Clause;

fn conn(identity: Option<&Identity>) -> Connection<'_> {
    Connection {
        identity,
        source_ip: "10.1.0.7".parse().unwrap(),
        destination_ip: "10.2.0.1".parse().unwrap(),
        destination_port: 8080,
    }
}

fn exact(s: &str) -> StringMatch {
    StringMatch::Exact(s.into())
}

#[test]
fn principals_match_without_being_written_out() {
    let id = Identity::new("cluster.local", "shop", "web");
    let holds = |m: StringMatch| {
        let written = m.matches(Some(&id.principal()));
        assert_eq!(m.matches_principal(Some(&id)), written, "{m:?}");
        assert!(!m.matches_principal(None), "{m:?} matched a client without identity");
        written
    };
    assert!(holds(exact("cluster.local/ns/shop/sa/web")));
    assert!(!holds(exact("cluster.local/ns/shop/sa/webs")));
    assert!(!holds(exact("cluster.local/ns/shop/sa/we")));
    assert!(!holds(exact("")));
    assert!(holds(StringMatch::Presence));
    for cut in 0..=id.principal().len() {
        assert!(holds(StringMatch::Prefix(id.principal()[..cut].into())));
        assert!(holds(StringMatch::Suffix(id.principal()[cut..].into())));
    }
    assert!(!holds(StringMatch::Prefix("cluster.local/ns/shop/sa/web-".into())));
    assert!(!holds(StringMatch::Suffix("x/ns/shop/sa/web".into())));
}

#[test]
fn every_list_of_a_match_must_hold() {
    let id = Identity::new("cluster.local", "shop", "web");
    let m = Match {
        namespaces: vec![exact("other"), exact("shop")],
        destination_ports: vec![8080],
        source_ips: vec!["10.1.0.0/16".parse().unwrap()],
        ..Match::default()
    };
    assert!(m.matches(&conn(Some(&id))));
    assert!(!m.matches(&conn(None)), "a namespace cannot match a client without identity");
    assert!(!Match { destination_ports: vec![80], ..m.clone() }.matches(&conn(Some(&id))));
    assert!(!Match { not_destination_ports: vec![8080], ..m.clone() }.matches(&conn(Some(&id))));
    assert!(
        !Match { source_ips: vec!["10.9.0.0/16".parse().unwrap()], ..m.clone() }.matches(&conn(Some(&id)))
    );
    assert!(!Match { not_source_ips: m.source_ips.clone(), ..m.clone() }.matches(&conn(Some(&id))));
}

#[test]
fn negations_hold_for_clients_without_identity() {
    let strict = Match { not_principals: vec![StringMatch::Presence], ..Match::default() };
    assert!(strict.matches(&conn(None)));
    assert!(!strict.matches(&conn(Some(&Identity::new("cluster.local", "a", "b")))));
    let not_shop = Match { not_namespaces: vec![exact("shop")], ..Match::default() };
    assert!(not_shop.matches(&conn(None)));
}

#[test]
fn service_accounts_name_namespace_and_account() {
    let account = |ns: &str, sa: &str| crate::policy::ServiceAccountMatch {
        namespace: ns.into(),
        service_account: sa.into(),
    };
    let id = Identity::new("cluster.local", "shop", "web");
    let m = |list| Match { service_accounts: list, ..Match::default() };
    assert!(m(vec![account("shop", "web")]).matches(&conn(Some(&id))));
    assert!(!m(vec![account("shop", "api"), account("bank", "web")]).matches(&conn(Some(&id))));
    assert!(!m(vec![account("shop", "web")]).matches(&conn(None)));
    let not = Match { not_service_accounts: vec![account("shop", "web")], ..Match::default() };
    assert!(!not.matches(&conn(Some(&id))));
    assert!(not.matches(&conn(None)));
}

#[test]
fn clauses_are_and_matches_are_or() {
    let id = Identity::new("cluster.local", "shop", "web");
    let port = |p| Match { destination_ports: vec![p], ..Match::default() };
    let rule = |clauses: &[&[u16]]| Rule {
        clauses: clauses
            .iter()
            .map(|ports| Clause { matches: ports.iter().map(|p| port(*p)).collect() })
            .collect(),
    };
    assert!(rule(&[]).matches(&conn(Some(&id))), "a rule without clauses holds for everything");
    assert!(rule(&[&[80, 8080]]).matches(&conn(Some(&id))));
    assert!(!rule(&[&[80], &[8080]]).matches(&conn(Some(&id))));
    assert!(!rule(&[&[]]).matches(&conn(Some(&id))), "a clause without matches holds for nothing");
}
