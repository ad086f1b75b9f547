use super::*;
use crate::{
    Delta, SnapshotStore,
    service::ServicePort,
    workload::{Health, PortMapping, Tunnel},
};

fn workload(name: &str, ip: &str, tunnel: Tunnel) -> Workload {
    let mut w = Workload::new(format!("uid-{name}"), "shop", name, name);
    w.addresses = ip.split(',').map(|a| a.parse().unwrap()).collect();
    w.tunnel = tunnel;
    w
}

fn behind(mut w: Workload, service: &Service, target: u16) -> Workload {
    Arc::make_mut(&mut w.services)
        .insert(service.key.clone(), vec![PortMapping { service_port: 80, target_port: target }]);
    w
}

fn service(name: &str, vip: &str) -> Service {
    let mut s = Service::new("shop", name, format!("{name}.shop.svc.cluster.local"));
    s.addresses = vip.split(',').map(|a| NetworkAddress::new("".into(), a.parse().unwrap())).collect();
    s.ports = vec![ServicePort { service_port: 80, target_port: 0 }];
    s
}

fn mesh(workloads: Vec<Workload>, services: Vec<Service>) -> Arc<Snapshot> {
    let store = SnapshotStore::default();
    let deltas = workloads.into_iter().map(|w| Delta::Workload(Box::new(w)));
    store.apply(deltas.chain(services.into_iter().map(Delta::Service)).collect());
    store.load()
}

fn client() -> Workload {
    workload("web", "10.0.0.1,fd00::1", Tunnel::Hbone)
}

fn ask(snapshot: &Snapshot, to: &str) -> Outbound {
    outbound(snapshot, &client(), to.parse().unwrap(), 0)
}

fn tunnelled(o: Outbound) -> Tunnelled {
    match o {
        Outbound::Tunnel(t) => *t,
        other => panic!("expected a tunnel, got {other:?}"),
    }
}

#[test]
fn a_workload_that_names_port_0_is_not_sent_there() {
    let mut s = service("api", "10.96.0.1");
    let m =
        |s: &Service| mesh(vec![behind(workload("api", "10.0.0.2", Tunnel::Hbone), s, 0)], vec![s.clone()]);
    let refused = ask(&m(&s), "10.96.0.1:80");
    assert!(matches!(refused, Outbound::Refuse { reason: Reason::NoHealthyEndpoint, .. }), "{refused:?}");
    s.ports[0].target_port = 8080;
    assert_eq!(tunnelled(ask(&m(&s), "10.96.0.1:80")).authority.port(), 8080);
}

#[test]
fn what_the_mesh_does_not_know_goes_on_untouched() {
    let o = ask(&mesh(vec![], vec![]), "192.0.2.1:443");
    assert!(
        matches!(o, Outbound::Plain { to, workload: None, .. } if to == "192.0.2.1:443".parse().unwrap())
    );
}

#[test]
fn a_meshed_workload_is_reached_through_a_tunnel_to_its_own_address() {
    let m = mesh(vec![workload("api", "10.0.0.2", Tunnel::Hbone)], vec![]);
    let t = tunnelled(ask(&m, "10.0.0.2:8080"));
    assert_eq!((t.hop, t.authority), ("10.0.0.2:15008".parse().unwrap(), "10.0.0.2:8080".parse().unwrap()));
    assert_eq!(*t.expect, [Identity::new("cluster.local", "shop", "api")]);
}

#[test]
fn an_unmeshed_or_host_network_workload_is_reached_plainly() {
    let mut host = workload("node", "10.0.0.3", Tunnel::Hbone);
    host.host_network = true;
    let m = mesh(vec![workload("old", "10.0.0.2", Tunnel::None), host], vec![]);
    assert!(matches!(ask(&m, "10.0.0.2:80"), Outbound::Plain { workload: Some(_), .. }));
    let to_node = ask(&m, "10.0.0.3:80");
    assert!(matches!(to_node, Outbound::Plain { workload: None, .. }), "the node's address is nobody's");
}

#[test]
fn a_service_is_reached_at_the_workloads_own_port() {
    let s = service("api", "10.96.0.1");
    let m = mesh(vec![behind(workload("api-0", "10.0.0.2", Tunnel::Hbone), &s, 8080)], vec![s]);
    let t = tunnelled(ask(&m, "10.96.0.1:80"));
    assert_eq!(t.authority, "10.0.0.2:8080".parse().unwrap());
    assert!(t.service.is_some());
}

#[test]
fn the_families_of_vip_and_endpoint_agree_where_they_can() {
    let s = service("api", "10.96.0.1,fd96::1");
    let dual = behind(workload("api-0", "10.0.0.2,fd00::2", Tunnel::Hbone), &s, 8080);
    let m = mesh(vec![dual], vec![s.clone()]);
    assert_eq!(tunnelled(ask(&m, "[fd96::1]:80")).authority, "[fd00::2]:8080".parse().unwrap());
    let only_v4 = behind(workload("api-0", "10.0.0.2", Tunnel::Hbone), &s, 8080);
    let m = mesh(vec![only_v4], vec![s]);
    assert_eq!(tunnelled(ask(&m, "[fd96::1]:80")).authority, "10.0.0.2:8080".parse().unwrap());
}

#[test]
fn unknown_ports_and_missing_endpoints_have_their_reasons() {
    let s = service("api", "10.96.0.1");
    let mut sick = behind(workload("api-0", "10.0.0.2", Tunnel::Hbone), &s, 8080);
    sick.health = Health::Unhealthy;
    let m = mesh(vec![sick], vec![s]);
    let reason = |o| match o {
        Outbound::Refuse { reason, .. } => reason,
        other => panic!("expected a refusal, got {other:?}"),
    };
    assert_eq!(reason(ask(&m, "10.96.0.1:81")), Reason::UnknownPort);
    assert_eq!(reason(ask(&m, "10.96.0.1:80")), Reason::NoHealthyEndpoint);
}

#[test]
fn endpoints_are_picked_evenly() {
    let s = service("api", "10.96.0.1");
    let workloads: Vec<_> = (0..8)
        .map(|n| behind(workload(&format!("api-{n}"), &format!("10.0.1.{n}"), Tunnel::Hbone), &s, 80))
        .collect();
    let m = mesh(workloads, vec![s]);
    let mut seen = std::collections::BTreeMap::new();
    for n in 0..800u64 {
        let rand = n.wrapping_mul(u64::MAX / 800);
        let o = outbound(&m, &client(), "10.96.0.1:80".parse().unwrap(), rand);
        *seen.entry(tunnelled(o).authority).or_insert(0) += 1;
    }
    assert_eq!(seen.len(), 8);
    assert!(seen.values().all(|n| (99..=101).contains(n)), "{seen:?}");
}

/// Where `count` connections to the service at 10.96.0.1 go that the kernel drew `drawn` for.
fn spread(m: &Snapshot, drawn: Drawn, count: u64) -> std::collections::BTreeMap<SocketAddr, u64> {
    let mut source = client();
    source.node = "here".into();
    let mut seen = std::collections::BTreeMap::new();
    for n in 0..count {
        let rand = n.wrapping_mul(u64::MAX / count);
        let o = outbound_drawn(m, &source, "10.96.0.1:80".parse().unwrap(), drawn, rand);
        *seen.entry(tunnelled(o).authority).or_insert(0) += 1;
    }
    seen
}

/// A service of six endpoints: 10.0.1.0 to 10.0.1.3 on the node `here`, the others elsewhere.
fn half_here() -> Arc<Snapshot> {
    let s = service("api", "10.96.0.1");
    let endpoint = |n: u8| {
        let mut w = workload(&format!("api-{n}"), &format!("10.0.1.{n}"), Tunnel::Hbone);
        w.node = if n < 4 { "here".into() } else { "there".into() };
        behind(w, &s, 80)
    };
    mesh((0..6).map(endpoint).collect(), vec![s.clone()])
}

#[test]
fn what_the_kernel_drew_elsewhere_goes_elsewhere_and_evenly() {
    let seen = spread(&half_here(), Drawn::Elsewhere, 6000);
    assert_eq!(seen.keys().map(ToString::to_string).collect::<Vec<_>>(), ["10.0.1.4:80", "10.0.1.5:80"]);
    assert!(seen.values().all(|n| (2700..=3300).contains(n)), "{seen:?}");
    assert_eq!(spread(&half_here(), Drawn::Nothing, 6000).len(), 6);
}

#[test]
fn the_endpoint_that_the_kernel_drew_is_kept_while_it_is_one() {
    let m = half_here();
    let drawn = |at: &str| Drawn::Endpoint(at.parse().unwrap());
    let seen = spread(&m, drawn("10.0.1.2:80"), 10);
    assert_eq!(seen.keys().map(ToString::to_string).collect::<Vec<_>>(), ["10.0.1.2:80"]);
    for gone in ["10.0.1.2:81", "10.0.1.9:80"] {
        assert_eq!(spread(&m, drawn(gone), 600).len(), 6, "{gone}");
    }
}

#[test]
fn with_no_endpoint_elsewhere_those_of_the_node_are_as_good() {
    let s = service("api", "10.96.0.1");
    let mut w = workload("api-0", "10.0.1.0", Tunnel::Hbone);
    w.node = "here".into();
    let m = mesh(vec![behind(w, &s, 80)], vec![s]);
    assert_eq!(spread(&m, Drawn::Elsewhere, 4).len(), 1);
}

#[test]
fn an_address_from_outside_leads_to_the_service_on_its_ports_alone() {
    let at = |a: &str| NetworkAddress::new("".into(), a.parse().unwrap());
    let (mut web, mut dns) = (service("web", "10.96.0.1"), service("dns", "10.96.0.2"));
    web.external_addresses = vec![at("192.0.2.7"), at("10.0.0.9"), at("10.96.0.2")];
    dns.external_addresses = vec![at("192.0.2.7")];
    dns.ports[0].service_port = 53;
    let backend = behind(workload("web-0", "10.0.0.2", Tunnel::Hbone), &web, 8080);
    let other = workload("other", "10.0.0.9", Tunnel::Hbone);
    let m = mesh(vec![backend, other], vec![web.clone(), dns]);
    let t = tunnelled(ask(&m, "192.0.2.7:80"));
    assert_eq!(
        (t.authority, t.service.unwrap().service.key.clone()),
        ("10.0.0.2:8080".parse().unwrap(), web.key)
    );
    let empty = ask(&m, "192.0.2.7:53");
    assert!(matches!(empty, Outbound::Refuse { reason: Reason::NoHealthyEndpoint, .. }), "{empty:?}");
    let other_port = ask(&m, "192.0.2.7:443");
    assert!(matches!(other_port, Outbound::Plain { workload: None, service: None, .. }), "{other_port:?}");
    assert_eq!(
        tunnelled(ask(&m, "10.0.0.9:80")).workload.name.as_ref(),
        "other",
        "a pod's own address is its own"
    );
    let service_of = |a: &str, port| m.service_reached(&at(a), port).map(|s| s.service.name.to_string());
    assert_eq!(service_of("192.0.2.7", 53).as_deref(), Some("dns"));
    assert_eq!(service_of("10.0.0.9", 80), None);
    assert_eq!(service_of("10.96.0.2", 80).as_deref(), Some("dns"), "the service that it was given to");
}

#[test]
fn an_address_from_outside_goes_with_its_service() {
    let mut s = service("web", "10.96.0.1");
    s.external_addresses = vec![NetworkAddress::new("".into(), "192.0.2.7".parse().unwrap())];
    let store = SnapshotStore::default();
    let reached = |port| store.load().external_at(&s.external_addresses[0], port).is_some();
    store.apply(vec![Delta::Service(s.clone())]);
    assert!(reached(80) && !reached(81));
    let mut moved = s.clone();
    moved.ports[0].service_port = 81;
    store.apply(vec![Delta::Service(moved.clone())]);
    assert!(!reached(80) && reached(81));
    moved.external_addresses.clear();
    store.apply(vec![Delta::Service(moved)]);
    assert!(!reached(81));
}

#[test]
fn a_client_that_stays_with_its_endpoint_leaves_it_only_when_it_goes() {
    let mut s = service("api", "10.96.0.1,fd96::1");
    s.load_balancing.client_affinity = true;
    let endpoint =
        |n: usize| behind(workload(&format!("api-{n}"), &format!("10.0.1.{n}"), Tunnel::Hbone), &s, 80);
    let of = |numbers: &[usize]| mesh(numbers.iter().map(|n| endpoint(*n)).collect(), vec![s.clone()]);
    let source = |n: u8| workload("web", &format!("10.0.2.{n}"), Tunnel::Hbone);
    let go = |m: &Snapshot, client: u8, rand: u64| {
        let to = "10.96.0.1:80".parse().unwrap();
        let one = tunnelled(outbound_drawn(m, &source(client), to, Drawn::Elsewhere, rand)).workload;
        let other = tunnelled(outbound(m, &source(client), to, !rand)).workload;
        assert_eq!(one.name, other.name, "whatever is drawn");
        one.name.to_string()
    };
    let (six, five, seven) = (of(&[0, 1, 2, 3, 4, 5]), of(&[0, 1, 2, 3, 4]), of(&[0, 1, 2, 3, 4, 5, 6]));
    let mut seen = std::collections::BTreeMap::<String, u32>::new();
    for client in 0..=255 {
        let home = go(&six, client, u64::from(client) << 56);
        *seen.entry(home.clone()).or_default() += 1;
        if home != "api-5" {
            assert_eq!(go(&five, client, 7), home, "another one's end");
        }
        let after = go(&seven, client, 9);
        assert!(after == home || after == "api-6", "one that is new takes its share: {home} {after}");
    }
    assert!(seen.len() == 6 && seen.values().all(|n| (20..=70).contains(n)), "{seen:?}");
}

#[test]
fn a_waypoint_is_passed_first_and_keeps_what_was_asked_for() {
    let wp = service("waypoint", "10.96.0.9");
    let mut s = service("api", "10.96.0.1");
    let gateway = Gateway { destination: GatewayDestination::Service(wp.key.clone()), hbone_port: 15008 };
    s.waypoint = Some(gateway.clone());
    let wp_pod = behind(workload("wp-0", "10.0.0.9", Tunnel::Hbone), &wp, 15008);
    let mut direct = workload("api-0", "10.0.0.2", Tunnel::Hbone);
    direct.waypoint = Some(gateway);
    let m = mesh(vec![wp_pod.clone(), direct], vec![s.clone(), wp.clone()]);
    for to in ["10.96.0.1:80", "10.0.0.2:8080"] {
        let t = tunnelled(ask(&m, to));
        assert_eq!((t.hop, t.authority), ("10.0.0.9:15008".parse().unwrap(), to.parse().unwrap()));
        assert!(t.via_waypoint);
    }
    let from_waypoint = outbound(&m, &wp_pod, "10.0.0.2:8080".parse().unwrap(), 0);
    assert!(!tunnelled(from_waypoint).via_waypoint, "the waypoint's own traffic must not come back to it");
    let lost = mesh(vec![], vec![s]);
    assert!(
        matches!(ask(&lost, "10.96.0.1:80"), Outbound::Refuse { reason: Reason::UnknownWaypoint, .. }),
        "a waypoint that is not there must not be gone around"
    );
}

#[test]
fn names_that_a_service_gives_besides_are_expected_too() {
    let mut s = service("api", "10.96.0.1");
    s.subject_alt_names = vec!["spiffe://cluster.local/ns/shop/sa/legacy".into(), "not-an-identity".into()];
    let m = mesh(vec![behind(workload("api-0", "10.0.0.2", Tunnel::Hbone), &s, 8080)], vec![s]);
    let t = tunnelled(ask(&m, "10.96.0.1:80"));
    assert_eq!(t.expect.len(), 2);
    assert!(t.expect.contains(&Identity::new("cluster.local", "shop", "legacy")));
}
