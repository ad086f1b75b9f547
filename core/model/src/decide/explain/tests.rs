use super::*;
use crate::{
    Delta, NetworkAddress, Policy, Service, SnapshotStore,
    policy::{Action, Clause, Match, PolicyScope, Rule, StringMatch},
    service::ServicePort,
    workload::{PortMapping, Tunnel},
};

fn pod(name: &str, ip: &str, tunnel: Tunnel) -> Workload {
    let mut w = Workload::new(format!("Kubernetes//Pod/shop/{name}"), "shop", name, name);
    w.addresses = vec![ip.parse().unwrap()];
    w.tunnel = tunnel;
    w
}

fn principal(policy: &str, action: Action, principal: &str) -> Policy {
    let one = Match { principals: vec![StringMatch::Exact(principal.into())], ..Match::default() };
    Policy {
        key: policy.parse().unwrap(),
        scope: PolicyScope::Namespace,
        action,
        dry_run: false,
        rules: vec![Rule { clauses: vec![Clause { matches: vec![one] }] }],
    }
}

/// web and old (not in the mesh) call db, behind a service.
fn store() -> SnapshotStore {
    let store = SnapshotStore::default();
    let mut service = Service::new("shop", "db", "db.shop.svc.cluster.local");
    service.addresses = vec![NetworkAddress::new("".into(), "10.96.0.1".parse().unwrap())];
    service.ports = vec![ServicePort { service_port: 80, target_port: 5432 }];
    let mut db = pod("db", "10.0.1.2", Tunnel::Hbone);
    let mapping = PortMapping { service_port: 80, target_port: 5432 };
    Arc::make_mut(&mut db.services).insert(service.key.clone(), vec![mapping]);
    store.apply(vec![
        Delta::Service(service),
        Delta::Workload(Box::new(db)),
        Delta::Workload(Box::new(pod("web", "10.0.1.1", Tunnel::Hbone))),
        Delta::Workload(Box::new(pod("old", "10.0.1.9", Tunnel::None))),
    ]);
    store
}

fn ask(store: &SnapshotStore, from: &str, to: &str, direct: bool) -> Explanation {
    let snapshot = store.load();
    let source = snapshot.workload(&format!("Kubernetes//Pod/shop/{from}")).unwrap();
    explain(&snapshot, source, to.parse().unwrap(), 0, |_, _| direct)
}

#[test]
fn a_tunnel_names_who_may_answer() {
    let e = ask(&store(), "web", "10.96.0.1:80", false);
    assert_eq!(e.way, Way::Tunnel { hop: "10.0.1.2:15008".parse().unwrap(), waypoint: false });
    assert_eq!(e.at, "10.0.1.2:5432".parse().unwrap());
    assert_eq!(e.expect[..], [Identity::new("cluster.local", "shop", "db")]);
    assert_eq!(e.identity, Some(Identity::new("cluster.local", "shop", "web")));
    assert_eq!(e.refused(), None);
}

#[test]
fn the_kernels_word_makes_it_direct_and_policies_hold_there_too() {
    let store = store();
    store.apply(vec![Delta::Policy(principal("shop/no-web", Action::Deny, "cluster.local/ns/shop/sa/web"))]);
    let e = ask(&store, "web", "10.96.0.1:80", true);
    assert_eq!(e.way, Way::Direct);
    assert_eq!(e.refused(), Some(Reason::PolicyDenied));
    assert_eq!(e.verdict.unwrap().policy, Some("shop/no-web".parse().unwrap()));
    assert_eq!(e.held, Held { deny: 1, allow: 0, dry_run: 0 });
}

#[test]
fn a_client_outside_the_mesh_arrives_without_identity() {
    let store = store();
    store.apply(vec![Delta::Policy(principal("shop/web", Action::Allow, "cluster.local/ns/shop/sa/web"))]);
    let e = ask(&store, "old", "10.96.0.1:80", true);
    assert_eq!((&e.way, &e.identity), (&Way::Unmeshed, &None));
    assert_eq!(e.refused(), Some(Reason::PolicyDenied));
    assert_eq!(e.verdict.unwrap().policy, None, "no ALLOW matched");
}

#[test]
fn what_the_mesh_does_not_know_passes_through() {
    let e = ask(&store(), "web", "192.0.2.1:443", true);
    assert_eq!(e.way, Way::Passthrough);
    assert!(e.verdict.is_none() && e.destination.is_none());
    let e = ask(&store(), "web", "10.0.1.9:80", true);
    assert_eq!(e.way, Way::Plain);
    assert!(e.verdict.is_none(), "nobody enforces there");
}

#[test]
fn a_refusal_of_the_clients_side_says_why() {
    let e = ask(&store(), "web", "10.96.0.1:81", false);
    assert_eq!(e.refused(), Some(Reason::UnknownPort));
    assert!(e.service.is_some());
}

#[test]
fn where_clients_stay_with_their_endpoints_the_kernel_joins_nobody() {
    let store = store();
    let mut service = store.load().services().next().unwrap().service.clone();
    service.load_balancing.client_affinity = true;
    store.apply(vec![Delta::Service(service)]);
    assert!(matches!(ask(&store, "web", "10.96.0.1:80", true).way, Way::Tunnel { waypoint: false, .. }));
    assert_eq!(ask(&store, "web", "10.0.1.2:5432", true).way, Way::Direct, "at its own address as ever");
}
