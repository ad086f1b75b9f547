use super::*;
use crate::{
    NetworkAddress, Reason, decide,
    policy::Connection,
    service::{LoadBalancing, LocalityMode, Scope},
    workload::{Health, Hint, Locality, PortMapping},
};

fn workload(name: &str, ip: &str) -> Workload {
    let mut w = Workload::new(format!("uid-{name}"), "shop", name, name);
    w.addresses = vec![ip.parse().unwrap()];
    w
}

fn service(name: &str) -> Service {
    Service::new("shop", name, format!("{name}.shop"))
}

fn behind(mut w: Workload, s: &Service) -> Workload {
    Arc::make_mut(&mut w.services)
        .insert(s.key.clone(), vec![PortMapping { service_port: 80, target_port: 80 }]);
    w
}

fn put(w: Workload) -> Delta {
    Delta::Workload(Box::new(w))
}

fn at(ip: &str) -> NetworkAddress {
    NetworkAddress::new("".into(), ip.parse().unwrap())
}

fn names(s: &Snapshot, key: &ServiceKey) -> Vec<String> {
    s.service(key).unwrap().endpoints.pickable().iter().map(|e| e.workload.name.to_string()).collect()
}

#[test]
fn what_was_put_is_found_and_what_was_dropped_is_not() {
    let store = SnapshotStore::default();
    let changed = store.apply(vec![put(workload("a", "10.0.0.1"))]);
    assert_eq!((changed.version, changed.workloads.len()), (1, 1));
    let s = store.load();
    assert_eq!(&*s.workload_at(&at("10.0.0.1")).unwrap().name, "a");
    assert!(s.workload_of_pod(&"shop".into(), &"a".into()).is_some());
    store.apply(vec![Delta::WorkloadGone("uid-a".into())]);
    assert!(store.load().workload_at(&at("10.0.0.1")).is_none());
    assert!(store.load().workload_of_pod(&"shop".into(), &"a".into()).is_none());
    assert!(s.workload("uid-a").is_some(), "a snapshot that is held does not change");
}

#[test]
fn the_same_again_is_no_change() {
    let store = SnapshotStore::default();
    store.apply(vec![put(workload("a", "10.0.0.1")), Delta::Service(service("api"))]);
    let before = store.load();
    let changed = store.apply(vec![
        put(workload("a", "10.0.0.1")),
        Delta::Service(service("api")),
        Delta::WorkloadGone("uid-unknown".into()),
    ]);
    assert!(changed.is_empty());
    assert!(Arc::ptr_eq(&before, &store.load()));
}

#[test]
fn an_address_that_moves_on_is_not_lost_when_its_first_owner_goes() {
    let store = SnapshotStore::default();
    store.apply(vec![put(workload("old", "10.0.0.1"))]);
    store.apply(vec![put(workload("new", "10.0.0.1"))]);
    store.apply(vec![Delta::WorkloadGone("uid-old".into())]);
    assert_eq!(&*store.load().workload_at(&at("10.0.0.1")).unwrap().name, "new");
}

#[test]
fn a_nodes_address_stands_for_none_of_its_host_network_pods() {
    let store = SnapshotStore::default();
    let mut w = workload("proxy", "192.168.0.1");
    w.host_network = true;
    store.apply(vec![put(w)]);
    assert!(store.load().workload_at(&at("192.168.0.1")).is_none());
    assert!(store.load().workload("uid-proxy").is_some());
}

#[test]
fn a_changed_address_forgets_the_old_one() {
    let store = SnapshotStore::default();
    store.apply(vec![put(workload("a", "10.0.0.1"))]);
    store.apply(vec![put(workload("a", "10.0.0.2"))]);
    let s = store.load();
    assert!(s.workload_at(&at("10.0.0.1")).is_none());
    assert!(s.workload_at(&at("10.0.0.2")).is_some());
    assert_eq!(s.workloads().count(), 1);
}

#[test]
fn workload_and_service_may_come_in_either_order() {
    let api = service("api");
    let w = behind(workload("a", "10.0.0.1"), &api);
    for deltas in
        [vec![put(w.clone()), Delta::Service(api.clone())], vec![Delta::Service(api.clone()), put(w.clone())]]
    {
        let (one, two) = (SnapshotStore::default(), SnapshotStore::default());
        one.apply(deltas.clone());
        for d in deltas {
            two.apply(vec![d]);
        }
        for store in [one, two] {
            assert_eq!(names(&store.load(), &api.key), ["a"]);
        }
    }
}

#[test]
fn endpoints_follow_their_workloads() {
    let api = service("api");
    let store = SnapshotStore::default();
    let w = |n: &str, ip: &str| behind(workload(n, ip), &api);
    store.apply(vec![Delta::Service(api.clone()), put(w("a", "10.0.0.1")), put(w("b", "10.0.0.2"))]);
    assert_eq!(names(&store.load(), &api.key), ["a", "b"]);
    let mut sick = w("a", "10.0.0.1");
    sick.health = Health::Unhealthy;
    let changed = store.apply(vec![put(sick)]);
    assert!(changed.services.contains(&api.key));
    assert_eq!(names(&store.load(), &api.key), ["b"]);
    assert_eq!(store.load().service(&api.key).unwrap().endpoints.all().len(), 2);
    store.apply(vec![put(workload("b", "10.0.0.2"))]);
    assert!(names(&store.load(), &api.key).is_empty());
}

#[test]
fn locality_prefers_or_demands_what_is_near() {
    let mut api = service("api");
    let near = |n: &str, ip: &str, node: &str, api: &Service| {
        let mut w = behind(workload(n, ip), api);
        w.node = node.into();
        put(w)
    };
    let balancing = |mode| LoadBalancing { scopes: vec![Scope::Node], mode, ..LoadBalancing::default() };
    let viewpoint = || Viewpoint { node: Some("n1".into()), ..Viewpoint::default() };
    for (mode, with_near, without) in [
        (LocalityMode::Any, vec!["a", "b"], vec!["b"]),
        (LocalityMode::Strict, vec!["a"], vec![]),
        (LocalityMode::Failover, vec!["a"], vec!["b"]),
    ] {
        api.load_balancing = balancing(mode);
        let store = SnapshotStore::new(viewpoint());
        store.apply(vec![
            Delta::Service(api.clone()),
            near("a", "10.0.0.1", "n1", &api),
            near("b", "10.0.0.2", "n2", &api),
        ]);
        assert_eq!(names(&store.load(), &api.key), with_near, "{mode:?}");
        store.apply(vec![Delta::WorkloadGone("uid-a".into())]);
        assert_eq!(names(&store.load(), &api.key), without, "{mode:?}");
    }
}

#[test]
fn who_is_told_to_end_is_the_last_resort() {
    let mut api = service("api");
    let at = |n: u8, node: &str, health, api: &Service| {
        let mut w = behind(workload(&format!("w{n}"), &format!("10.0.0.{n}")), api);
        (w.node, w.health) = (node.into(), health);
        put(w)
    };
    let (ready, draining, down) = (Health::Healthy, Health::Draining, Health::Unhealthy);
    let balancing = |mode| LoadBalancing { scopes: vec![Scope::Node], mode, ..LoadBalancing::default() };
    let (any, strict) = (LocalityMode::Any, LocalityMode::Strict);
    let near = LocalityMode::Failover;
    // w1 and w2 on this node, w3 and w4 on another.
    for (mode, health, expected) in [
        (any, [draining, down, ready, draining], vec!["w3"]),
        (any, [draining, down, down, draining], vec!["w1", "w4"]),
        (any, [down; 4], vec![]),
        (strict, [draining, ready, ready, ready], vec!["w2"]),
        (strict, [draining, down, ready, ready], vec!["w1"]),
        (strict, [down, down, ready, draining], vec![]),
        (near, [draining, draining, ready, down], vec!["w3"]),
        (near, [draining, down, down, draining], vec!["w1", "w4"]),
    ] {
        api.load_balancing = balancing(mode);
        let store = SnapshotStore::new(Viewpoint { node: Some("n1".into()), ..Viewpoint::default() });
        let mut deltas = vec![Delta::Service(api.clone())];
        for (n, health) in (1..).zip(health) {
            deltas.push(at(n, if n < 3 { "n1" } else { "n2" }, health, &api));
        }
        store.apply(deltas);
        assert_eq!(names(&store.load(), &api.key), expected, "{mode:?} {health:?}");
        let snapshot = store.load();
        let endpoints = &snapshot.service(&api.key).unwrap().endpoints;
        let last = endpoints.pickable().iter().any(|e| e.workload.health == draining);
        assert_eq!(endpoints.is_last_resort(), last, "{mode:?} {health:?}");
    }
}

#[test]
fn hints_count_where_all_have_them_and_one_is_for_here() {
    let mut api = service("api");
    let viewpoint = Viewpoint { node: Some("n1".into()), ..Viewpoint::default() };
    let store = SnapshotStore::new(viewpoint);
    let locality = |zone: &str| Locality { zone: zone.into(), ..Locality::default() };
    let hinted = |n: u8, zones: &[&str], nodes: &[&str], health| {
        let mut w = behind(workload(&format!("w{n}"), &format!("10.0.0.{n}")), &service("api"));
        let names = |names: &[&str]| names.iter().map(|&n| n.into()).collect();
        let hint = Hint { zones: names(zones), nodes: names(nodes) };
        w.health = health;
        w.hints =
            (hint != Hint::default()).then(|| Arc::new([(service("api").key, hint)].into_iter().collect()));
        put(w)
    };
    let client = |zone: &str| {
        let mut w = workload("client", "10.0.0.9");
        (w.node, w.locality) = ("n1".into(), locality(zone));
        put(w)
    };
    let ready = Health::Healthy;
    let now = |store: &SnapshotStore| names(&store.load(), &service("api").key);
    store.apply(vec![
        Delta::Service(api.clone()),
        hinted(1, &["a"], &[], ready),
        hinted(2, &["b", "c"], &[], ready),
        hinted(3, &["b"], &[], ready),
    ]);
    assert_eq!(now(&store), ["w1", "w2", "w3"], "nobody has said where the node is");
    let changed = store.apply(vec![client("b")]);
    assert!(changed.services.contains(&api.key));
    assert_eq!(now(&store), ["w2", "w3"]);
    store.apply(vec![client("c")]);
    assert_eq!(now(&store), ["w2"]);
    store.apply(vec![client("d")]);
    assert_eq!(now(&store), ["w1", "w2", "w3"], "none is for this zone");
    store.apply(vec![client("a"), hinted(2, &[], &[], ready)]);
    assert_eq!(now(&store), ["w1", "w2", "w3"], "one has no hint");
    store.apply(vec![hinted(2, &[], &[], Health::Draining)]);
    assert_eq!(now(&store), ["w1"], "what is not ready needs none");
    store.apply(vec![hinted(1, &["a"], &["n2"], ready), hinted(3, &["b"], &["n1"], ready)]);
    assert_eq!(now(&store), ["w3"], "nodes count before zones");
    store.apply(vec![
        hinted(1, &["a"], &["n2"], Health::Draining),
        hinted(3, &["b"], &["n1"], Health::Draining),
    ]);
    assert_eq!(now(&store), ["w1", "w2", "w3"], "the last resort is wherever it is");
    api.load_balancing.publish_not_ready = true;
    store.apply(vec![Delta::Service(api.clone())]);
    assert_eq!(now(&store), ["w1", "w2", "w3"], "w2 counts as ready");
}

#[test]
fn the_node_is_where_its_workloads_are_and_the_nearest_are_preferred() {
    let mut api = service("api");
    let scopes = vec![Scope::Region, Scope::Zone];
    api.load_balancing = LoadBalancing { scopes, mode: LocalityMode::Failover, ..LoadBalancing::default() };
    let place = |region: &str, zone: &str| Locality {
        region: region.into(),
        zone: zone.into(),
        ..Locality::default()
    };
    let at = |mut w: Workload, node: &str, locality: Locality| {
        (w.node, w.locality) = (node.into(), locality);
        put(w)
    };
    let client = |locality| at(workload("client", "10.0.0.9"), "n1", locality);
    let store = SnapshotStore::new(Viewpoint { node: Some("n1".into()), ..Viewpoint::default() });
    store.apply(vec![
        Delta::Service(api.clone()),
        at(behind(workload("a", "10.0.0.1"), &api), "n2", place("r1", "z1")),
        at(behind(workload("b", "10.0.0.2"), &api), "n3", place("r1", "z2")),
        at(behind(workload("c", "10.0.0.3"), &api), "n4", place("r2", "z1")),
    ]);
    let names = |store: &SnapshotStore| names(&store.load(), &api.key);
    assert_eq!(names(&store), ["a", "b", "c"], "nobody has said where the node is");
    let changed = store.apply(vec![client(place("r1", "z2"))]);
    assert!(changed.services.contains(&api.key));
    assert_eq!(names(&store), ["b"]);
    store.apply(vec![Delta::WorkloadGone("uid-b".into())]);
    assert_eq!(names(&store), ["a"], "the same region at least");
    store.apply(vec![client(place("r2", "z2"))]);
    assert_eq!(names(&store), ["c"]);
    store.apply(vec![client(place("r3", "z1"))]);
    assert_eq!(names(&store), ["a", "c"], "a zone of that name in another region is not near");
    store.apply(vec![client(Locality::default())]);
    assert_eq!(names(&store), ["a", "c"]);
}

#[test]
fn a_policy_that_changes_scope_leaves_the_old_one() {
    let policy = |scope| {
        Delta::Policy(Policy {
            key: PolicyKey { namespace: "shop".into(), name: "p".into() },
            scope,
            action: Action::Deny,
            dry_run: false,
            rules: vec![],
        })
    };
    let store = SnapshotStore::default();
    let w = workload("a", "10.0.0.1");
    let holding =
        |store: &SnapshotStore| store.load().policy_sets(&w).map(|s| s.is_some_and(|s| !s.deny.is_empty()));
    store.apply(vec![policy(PolicyScope::Global)]);
    assert_eq!(holding(&store), [true, false, false]);
    store.apply(vec![policy(PolicyScope::Namespace)]);
    assert_eq!(holding(&store), [false, true, false]);
    store.apply(vec![Delta::PolicyGone(PolicyKey { namespace: "shop".into(), name: "p".into() })]);
    assert_eq!(holding(&store), [false, false, false]);
}

#[test]
fn a_workload_is_closed_until_each_policy_that_it_names_is_known() {
    let key = PolicyKey { namespace: "shop".into(), name: "p".into() };
    let policy = |action| Policy {
        key: key.clone(),
        scope: PolicyScope::Selector,
        action,
        dry_run: false,
        rules: vec![Rule::default()],
    };
    let store = SnapshotStore::default();
    let mut w = workload("a", "10.0.0.1");
    w.policies = vec![key.clone()];
    let connection = Connection {
        identity: None,
        source_ip: "10.0.0.9".parse().unwrap(),
        destination_ip: "10.0.0.1".parse().unwrap(),
        destination_port: 80,
    };
    let refused = |store: &SnapshotStore| decide::inbound(&store.load(), &w, &connection).refused;
    store.apply(vec![put(w.clone())]);
    assert_eq!(refused(&store), Some(Reason::PolicyUnknown));
    store.apply(vec![Delta::Policy(policy(Action::Allow))]);
    assert_eq!(refused(&store), None);
    store.apply(vec![Delta::Policy(policy(Action::Deny))]);
    assert_eq!(refused(&store), Some(Reason::PolicyDenied));
    store.apply(vec![Delta::PolicyGone(key.clone())]);
    assert_eq!(refused(&store), None, "what was taken away holds no more");
    store.apply(vec![Delta::WorkloadGone(w.uid.clone()), Delta::PolicyGone(key.clone())]);
    store.apply(vec![Delta::Policy(policy(Action::Allow)), Delta::PolicyGone(key), put(w.clone())]);
    assert_eq!(refused(&store), None);
}
