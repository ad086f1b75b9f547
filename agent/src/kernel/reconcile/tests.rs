//! Snapshot in, map writes out.

use super::*;
use std::sync::Arc;
use weft_model::{
    Delta, NetworkAddress, Policy, PolicyKey, Service as ModelService, ServiceKey, SnapshotStore, Workload,
    policy::{Action, Clause, Match, PolicyScope, Rule, StringMatch},
    service::{LoadBalancing, LocalityMode, Scope, ServicePort},
    snapshot::Viewpoint,
    workload::{Gateway, GatewayDestination, Health, Hint, PortMapping, Tunnel},
};

fn workload(name: &str, addresses: &[&str]) -> Workload {
    let mut w = Workload::new(name, "shop", name, name);
    w.addresses = addresses.iter().map(|a| a.parse().unwrap()).collect();
    w.tunnel = Tunnel::Hbone;
    w
}

fn put(w: Workload) -> Delta {
    Delta::Workload(Box::new(w))
}

fn local(name: &str, cookie: u64) -> LocalPod {
    LocalPod { cookie, uid: name.into(), addresses: Vec::new() }
}

/// `web` (cookie 1) and `db` (cookie 2) on this node, `far` elsewhere, `plain` not in the mesh.
fn store() -> SnapshotStore {
    let store = SnapshotStore::default();
    let mut plain = workload("plain", &["10.0.0.9"]);
    plain.tunnel = Tunnel::None;
    let mut other = workload("other", &["10.0.0.8"]);
    other.network = "elsewhere".into();
    store.apply(vec![
        put(workload("web", &["10.0.0.1", "fd00::1"])),
        put(workload("db", &["10.0.0.2"])),
        put(workload("far", &["10.0.1.3"])),
        put(plain),
        put(other),
    ]);
    store
}

fn desired(store: &SnapshotStore) -> Desired {
    Desired::of(&store.load(), &"".into(), &[local("web", 1), local("db", 2)])
}

/// What `change` writes to maps that already say what `store` does.
fn writes(store: &SnapshotStore, change: Vec<Delta>) -> String {
    let before = desired(store);
    store.apply(change);
    Plan::between(&before, &desired(store)).to_string()
}

fn policy(name: &str, action: Action, matches: Match) -> Delta {
    Delta::Policy(Policy {
        key: PolicyKey { namespace: "shop".into(), name: name.into() },
        scope: PolicyScope::Namespace,
        action,
        dry_run: false,
        rules: vec![Rule { clauses: vec![Clause { matches: vec![matches] }] }],
    })
}

fn principal(account: &str) -> Vec<StringMatch> {
    vec![StringMatch::Exact(format!("cluster.local/ns/shop/sa/{account}").into())]
}

#[test]
fn a_node_s_first_writes() {
    let plan = Plan::between(&Desired::default(), &desired(&store()));
    assert_eq!(
        plan.to_string(),
        "put destination 10.0.0.1: cookie 1 kind 1 flags 1\n\
         put destination 10.0.0.2: cookie 2 kind 1 flags 1\n\
         put destination 10.0.1.3: cookie 0 kind 1 flags 0\n\
         put destination fd00::1: cookie 1 kind 1 flags 1\n\
         put plain 1:0: 1\n\
         put plain 2:0: 1\n"
    );
    assert_eq!(plan.len(), 6);
}

#[test]
fn nothing_changed_nothing_written() {
    assert_eq!(writes(&store(), vec![]), "");
    assert!(Plan::between(&desired(&store()), &desired(&store())).is_empty());
}

#[test]
fn a_policy_takes_the_open_door_away_and_answers_each_pair() {
    let store = store();
    let ports = Match { principals: principal("web"), destination_ports: vec![80], ..Match::default() };
    assert_eq!(
        writes(&store, vec![policy("p", Action::Allow, ports)]),
        "put destination 10.0.0.1: cookie 1 kind 1 flags 0\n\
         put destination 10.0.0.2: cookie 2 kind 1 flags 0\n\
         put destination fd00::1: cookie 1 kind 1 flags 0\n\
         put pair 1->2:80: 1\n\
         put pair 1->2:0: 2\n\
         put pair 2->1:0: 2\n\
         delete plain 1:0\n\
         delete plain 2:0\n"
    );
    let gone = Delta::PolicyGone(PolicyKey { namespace: "shop".into(), name: "p".into() });
    assert_eq!(
        writes(&store, vec![gone]),
        "put destination 10.0.0.1: cookie 1 kind 1 flags 1\n\
         put destination 10.0.0.2: cookie 2 kind 1 flags 1\n\
         put destination fd00::1: cookie 1 kind 1 flags 1\n\
         delete pair 1->2:80\n\
         delete pair 1->2:0\n\
         delete pair 2->1:0\n\
         put plain 1:0: 1\n\
         put plain 2:0: 1\n"
    );
}

#[test]
fn who_comes_in_plaintext_is_let_in_where_the_port_alone_decides() {
    let store = store();
    let on_9090 = Match { destination_ports: vec![9090], ..Match::default() };
    assert_eq!(
        plain(&writes(&store, vec![policy("p", Action::Deny, on_9090.clone())])),
        "put plain 1:9090: 0\nput plain 2:9090: 0\n",
        "port 0 goes on to answer for the others"
    );
    let but_80 = Match { not_destination_ports: vec![80], ..Match::default() };
    assert_eq!(
        plain(&writes(&store, vec![policy("p", Action::Deny, but_80)])),
        "delete plain 1:9090\nput plain 1:80: 1\ndelete plain 1:0\n\
         delete plain 2:9090\nput plain 2:80: 1\ndelete plain 2:0\n"
    );
    assert_eq!(
        plain(&writes(&store, vec![policy("p", Action::Deny, on_9090)])),
        "put plain 1:9090: 0\ndelete plain 1:80\nput plain 1:0: 1\n\
         put plain 2:9090: 0\ndelete plain 2:80\nput plain 2:0: 1\n",
        "the answer for all others comes last (and would go first: see `deletes`)"
    );
    let strict = Match { not_principals: vec![StringMatch::Presence], ..Match::default() };
    let closed = "delete plain 1:9090\ndelete plain 1:0\ndelete plain 2:9090\ndelete plain 2:0\n";
    assert_eq!(plain(&writes(&store, vec![policy("p", Action::Deny, strict)])), closed);
}

#[test]
fn where_a_policy_looks_at_addresses_the_agent_does() {
    let nets = || vec!["10.0.0.0/8".parse().unwrap()];
    for matches in [
        Match { source_ips: nets(), ..Match::default() },
        Match { not_source_ips: nets(), ..Match::default() },
        Match { destination_ips: nets(), ..Match::default() },
        Match { not_destination_ips: nets(), ..Match::default() },
    ] {
        let writes = writes(&store(), vec![policy("p", Action::Allow, matches)]);
        assert_eq!(plain(&writes), "delete plain 1:0\ndelete plain 2:0\n");
    }
}

/// The writes to `PLAIN` among these.
fn plain(writes: &str) -> String {
    writes.lines().filter(|line| line.contains(" plain ")).map(|line| format!("{line}\n")).collect()
}

#[test]
fn a_dry_run_closes_nothing() {
    let Delta::Policy(mut p) = policy("p", Action::Deny, Match::default()) else { panic!("no policy") };
    p.dry_run = true;
    assert_eq!(writes(&store(), vec![Delta::Policy(p)]), "");
}

#[test]
fn where_the_verdict_depends_on_the_address_the_agent_decides() {
    let store = store();
    // `web` has two addresses, and `db` gets an IPv6 one, too: the families disagree.
    store.apply(vec![put(workload("db", &["10.0.0.2", "fd00::2"]))]);
    let only_v4 = Match { source_ips: vec!["10.0.0.0/8".parse().unwrap()], ..Match::default() };
    let ports = Match { destination_ports: vec![80], ..Match::default() };
    store.apply(vec![policy("v4", Action::Allow, only_v4), policy("none", Action::Deny, ports)]);
    let pairs: std::collections::BTreeMap<_, _> =
        desired(&store).pairs.into_iter().map(|(k, v)| ((k.source, k.destination, k.port), v)).collect();
    // Port 80 is refused in both families; of the others nothing is said.
    assert_eq!(pairs.into_iter().collect::<Vec<_>>(), [((1, 2, 80), 2), ((2, 1, 80), 2)]);
}

#[test]
fn a_service_s_local_endpoints_and_the_number_of_all() {
    let store = store();
    let key = ServiceKey { namespace: "shop".into(), hostname: "db.shop".into() };
    let mut service = ModelService::new("shop", "db", "db.shop");
    let vip = |ip: &str| NetworkAddress::new("".into(), ip.parse().unwrap());
    service.addresses = vec![vip("10.96.0.1"), vip("fd96::1")];
    service.ports = vec![ServicePort { service_port: 80, target_port: 8080 }];
    let mut deltas = vec![Delta::Service(service.clone())];
    for (name, at) in [("db", "10.0.0.2"), ("far", "10.0.1.3")] {
        let mut w = workload(name, &[at]);
        Arc::make_mut(&mut w.services)
            .insert(key.clone(), vec![PortMapping { service_port: 80, target_port: 8081 }]);
        deltas.push(put(w));
    }
    assert_eq!(
        writes(&store, deltas),
        "put destination 10.96.0.1: cookie 0 kind 2 flags 0\n\
         put destination fd96::1: cookie 0 kind 2 flags 0\n\
         put service 10.96.0.1:80: total 2 local 1 flags 0\n\
         put service [fd96::1]:80: total 2 local 0 flags 0\n\
         put backend 10.96.0.1:80#0: 10.0.0.2:8081\n"
    );
    service.waypoint =
        Some(Gateway { destination: GatewayDestination::Address(vip("10.0.1.3")), hbone_port: 15008 });
    assert_eq!(
        writes(&store, vec![Delta::Service(service)]),
        "put service 10.96.0.1:80: total 2 local 1 flags 1\n\
         put service [fd96::1]:80: total 2 local 0 flags 1\n"
    );
    assert_eq!(
        writes(&store, vec![Delta::WorkloadGone("db".into())]),
        "delete destination 10.0.0.2\n\
         put service 10.96.0.1:80: total 1 local 0 flags 1\n\
         put service [fd96::1]:80: total 1 local 0 flags 1\n\
         delete backend 10.96.0.1:80#0\n\
         delete plain 2:0\n"
    );
}

#[test]
fn an_address_from_outside_is_a_service_s_like_its_own_and_affinity_is_the_agent_s() {
    let store = store();
    let vip = |ip: &str| NetworkAddress::new("".into(), ip.parse().unwrap());
    let service = |name: &str, own: &str, port| {
        let mut service = ModelService::new("shop", name, format!("{name}.shop"));
        service.addresses = vec![vip(own)];
        service.external_addresses = vec![vip("192.0.2.7"), vip("10.0.1.3")];
        service.ports = vec![ServicePort { service_port: port, target_port: 8080 }];
        service
    };
    let (db, mut dns) = (service("db", "10.96.0.1", 80), service("dns", "10.96.0.2", 53));
    let mut w = workload("db", &["10.0.0.2"]);
    Arc::make_mut(&mut w.services)
        .insert(db.key.clone(), vec![PortMapping { service_port: 80, target_port: 8080 }]);
    // Flag 4: outside of the mesh. 192.0.2.7 is not, as one of its services is inside. Flag 8: from outside.
    assert_eq!(
        writes(&store, vec![put(w), Delta::Service(db), Delta::Service(dns.clone())]),
        "put destination 10.96.0.1: cookie 0 kind 2 flags 0\n\
         put destination 10.96.0.2: cookie 0 kind 2 flags 4\n\
         put destination 192.0.2.7: cookie 0 kind 2 flags 8\n\
         put service 10.96.0.1:80: total 1 local 1 flags 0\n\
         put service 10.96.0.2:53: total 0 local 0 flags 0\n\
         put service 192.0.2.7:53: total 0 local 0 flags 0\n\
         put service 192.0.2.7:80: total 1 local 1 flags 0\n\
         put backend 10.96.0.1:80#0: 10.0.0.2:8080\n\
         put backend 192.0.2.7:80#0: 10.0.0.2:8080\n"
    );
    dns.load_balancing.client_affinity = true;
    assert_eq!(
        writes(&store, vec![Delta::Service(dns)]),
        "put service 10.96.0.2:53: total 0 local 0 flags 1\n\
         put service 192.0.2.7:53: total 0 local 0 flags 1\n"
    );
}

#[test]
fn an_endpoint_that_is_told_to_end_is_drawn_only_where_no_other_is_left() {
    let store = store();
    let key = ServiceKey { namespace: "shop".into(), hostname: "db.shop".into() };
    let mut service = ModelService::new("shop", "db", "db.shop");
    service.addresses = vec![NetworkAddress::new("".into(), "10.96.0.1".parse().unwrap())];
    service.ports = vec![ServicePort { service_port: 80, target_port: 0 }];
    let behind = |name: &str, at: &str, health| {
        let mut w = workload(name, &[at]);
        w.health = health;
        let mapping = PortMapping { service_port: 80, target_port: 8080 };
        Arc::make_mut(&mut w.services).insert(key.clone(), vec![mapping]);
        put(w)
    };
    store.apply(vec![
        Delta::Service(service),
        behind("db", "10.0.0.2", Health::Draining),
        behind("far", "10.0.1.3", Health::Healthy),
    ]);
    assert_eq!(
        writes(&store, vec![behind("far", "10.0.1.3", Health::Unhealthy)]),
        "put service 10.96.0.1:80: total 1 local 1 flags 0\n\
         put backend 10.96.0.1:80#0: 10.0.0.2:8080\n"
    );
    assert_eq!(
        writes(&store, vec![behind("far", "10.0.1.3", Health::Healthy)]),
        "put service 10.96.0.1:80: total 1 local 0 flags 0\n\
         delete backend 10.96.0.1:80#0\n"
    );
}

#[test]
fn the_kernel_draws_among_those_that_the_model_would_pick_from() {
    let viewpoint = Viewpoint { node: Some("n1".into()), ..Viewpoint::default() };
    let store = SnapshotStore::new(viewpoint);
    let key = ServiceKey { namespace: "shop".into(), hostname: "db.shop".into() };
    let mut service = ModelService::new("shop", "db", "db.shop");
    service.addresses = vec![NetworkAddress::new("".into(), "10.96.0.1".parse().unwrap())];
    service.ports = vec![ServicePort { service_port: 80, target_port: 0 }];
    let behind = |name: &str, at: &str, node: &str, zone: Option<&str>| {
        let mut w = workload(name, &[at]);
        (w.node, w.locality.zone) = (node.into(), if node == "n1" { "a".into() } else { "b".into() });
        let mapping = PortMapping { service_port: 80, target_port: 8080 };
        Arc::make_mut(&mut w.services).insert(key.clone(), vec![mapping]);
        let hint = |zone: &str| Hint { zones: vec![zone.into()], nodes: Vec::new() };
        w.hints = zone.map(|zone| Arc::new([(key.clone(), hint(zone))].into()));
        put(w)
    };
    store.apply(vec![
        Delta::Service(service.clone()),
        behind("db", "10.0.0.2", "n1", None),
        behind("far", "10.0.1.3", "n2", None),
    ]);
    let drawn = |store: &SnapshotStore| {
        let desired = desired(store);
        let [one] = desired.services.values().collect::<Vec<_>>()[..] else {
            panic!("{:?}", desired.services)
        };
        assert_eq!(one.local as usize, desired.backends.len());
        (one.total, one.local)
    };
    assert_eq!(drawn(&store), (2, 1));
    let near = |mode| LoadBalancing { scopes: vec![Scope::Node], mode, ..LoadBalancing::default() };
    for mode in [LocalityMode::Strict, LocalityMode::Failover] {
        service.load_balancing = near(mode);
        store.apply(vec![Delta::Service(service.clone())]);
        assert_eq!(drawn(&store), (1, 1), "{mode:?}");
    }
    service.load_balancing = LoadBalancing::default();
    store.apply(vec![Delta::Service(service.clone())]);
    for (of_db, of_far, expected) in [("a", "b", (1, 1)), ("b", "a", (1, 0)), ("b", "b", (2, 1))] {
        let hinted =
            vec![behind("db", "10.0.0.2", "n1", Some(of_db)), behind("far", "10.0.1.3", "n2", Some(of_far))];
        store.apply(hinted);
        assert_eq!(drawn(&store), expected, "hints for {of_db} and {of_far}");
    }
}

#[test]
fn what_must_pass_a_waypoint_or_be_encrypted_is_the_agent_s() {
    let store = store();
    let mut w = workload("db", &["10.0.0.2"]);
    let at = NetworkAddress::new("".into(), "10.0.1.3".parse().unwrap());
    w.waypoint = Some(Gateway { destination: GatewayDestination::Address(at), hbone_port: 15008 });
    assert_eq!(writes(&store, vec![put(w)]), "put destination 10.0.0.2: cookie 2 kind 1 flags 3\n");
    let mut w = workload("web", &["10.0.0.1"]);
    w.always_encrypt = true;
    let written = writes(&store, vec![put(w)]);
    assert!(written.contains("put destination 10.0.0.1: cookie 1 kind 1 flags 3\n"), "{written}");
}

#[test]
fn a_pod_without_a_workload_is_captured_all_the_same() {
    let desired = Desired::of(&store().load(), &"".into(), &[local("new", 7)]);
    assert_eq!(desired.destinations.len(), 4);
    assert!(desired.destinations.values().all(|d| d.cookie == 0));
}
