extern crate std;

use super::*;
use crate::{Admission, admit, recorded};
use std::{collections::HashMap, net::SocketAddr};
use weft_ebpf_abi::{Arrival, arrival};

#[derive(Default)]
struct Tables {
    destinations: HashMap<Addr, Destination>,
    services: HashMap<Endpoint, Service>,
    backends: HashMap<BackendKey, Backend>,
    pairs: HashMap<PairKey, u32>,
    incomplete: bool,
    changed_ns: u64,
    flags: HashMap<u64, u32>,
    random: u32,
}

impl World for Tables {
    fn destination(&self, addr: &Addr) -> Option<Destination> {
        self.destinations.get(addr).copied()
    }
    fn service(&self, at: &Endpoint) -> Option<Service> {
        self.services.get(at).copied()
    }
    fn backend(&self, key: &BackendKey) -> Option<Backend> {
        self.backends.get(key).copied()
    }
    fn pair(&self, key: &PairKey) -> Option<u32> {
        self.pairs.get(key).copied()
    }
    fn is_incomplete(&self) -> bool {
        self.incomplete
    }
    fn changed_ns(&self) -> u64 {
        self.changed_ns
    }
    fn flags(&self, cookie: u64) -> Option<u32> {
        self.flags.get(&cookie).copied()
    }
    fn random(&self) -> u32 {
        self.random
    }
}

const WEB: Source = Source { cookie: 1, flags: 0 };
const LOCAL: u64 = 2;

fn at(s: &str) -> Endpoint {
    s.parse::<SocketAddr>().unwrap().into()
}

/// `10.0.0.1` is the source itself, `.2` a workload on the node, `.3` one elsewhere; `10.96.0.1:80` a service of both.
fn world() -> Tables {
    let mut w = Tables::default();
    let workload = |cookie| Destination { cookie, kind: destination::WORKLOAD, flags: 0 };
    w.destinations.insert(at("10.0.0.1:0").addr, workload(WEB.cookie));
    w.destinations.insert(at("10.0.0.2:0").addr, workload(LOCAL));
    w.destinations.insert(at("10.0.0.3:0").addr, workload(0));
    let vip = at("10.96.0.1:80");
    w.destinations.insert(vip.addr, Destination { cookie: 0, kind: destination::SERVICE, flags: 0 });
    w.services.insert(vip, Service { total: 2, local: 1, flags: 0 });
    w.backends.insert(BackendKey { service: vip, index: 0 }, at("10.0.0.2:8080"));
    w
}

fn pair(port: u32) -> PairKey {
    PairKey { source: WEB.cookie, destination: LOCAL, port, pad: 0 }
}

#[test]
fn what_the_mesh_does_not_know_is_left_alone() {
    for to in ["192.0.2.1:80", "127.0.0.1:80", "0.0.0.0:80", "[::1]:80", "[2001:db8::1]:80"] {
        assert_eq!(route(&world(), WEB, at(to)), Route::new(verdict::PASS), "{to}");
    }
}

#[test]
fn while_the_mesh_is_not_known_in_full_the_agent_looks_at_the_unknown() {
    let world = Tables { incomplete: true, ..world() };
    assert_eq!(route(&world, WEB, at("192.0.2.1:80")), Route::new(verdict::AGENT));
    assert_eq!(route(&world, WEB, at("127.0.0.1:80")), Route::new(verdict::PASS));
    assert_eq!(route(&world, WEB, at("10.0.0.1:80")).verdict, verdict::OWN);
}

#[test]
fn an_address_from_outside_is_the_mesh_s_on_the_ports_of_its_services_alone() {
    let mut w = world();
    let to = at("192.0.2.7:80");
    let known = Destination { cookie: 0, kind: destination::SERVICE, flags: destination::EXTERNAL };
    w.destinations.insert(to.addr, known);
    w.services.insert(to, Service { total: 1, local: 0, flags: 0 });
    assert_eq!(route(&w, WEB, to), Route { remote_only: true, ..Route::new(verdict::AGENT) });
    assert_eq!(route(&w, WEB, at("192.0.2.7:81")), Route::new(verdict::PASS));
    assert_eq!(route(&w, WEB, at("10.96.0.1:81")), Route::new(verdict::AGENT), "the mesh's own address");
    w.incomplete = true;
    assert_eq!(route(&w, WEB, at("192.0.2.7:81")), Route::new(verdict::AGENT));
}

#[test]
fn a_workload_elsewhere_is_for_the_agent() {
    assert_eq!(route(&world(), WEB, at("10.0.0.3:80")), Route::new(verdict::AGENT));
}

#[test]
fn a_workload_on_the_node_is_direct_when_policy_says_so() {
    let mut w = world();
    let to = at("10.0.0.2:80");
    assert_eq!(route(&w, WEB, to).verdict, verdict::AGENT, "nobody said that it is allowed");
    w.pairs.insert(pair(0), pair::ALLOW);
    assert_eq!(route(&w, WEB, to), Route { destination: LOCAL, ..Route::new(verdict::DIRECT) });
    w.pairs.insert(pair(80), pair::DENY);
    assert_eq!(route(&w, WEB, to), Route { destination: LOCAL, ..Route::new(verdict::DENY) });
    assert_eq!(route(&w, WEB, at("10.0.0.2:81")).verdict, verdict::DIRECT, "other ports are as before");
}

#[test]
fn a_record_holds_for_one_connection_and_as_long_as_it_would_be_made_again() {
    let mut w = Tables { changed_ns: 10, ..world() };
    w.flags.insert(WEB.cookie, WEB.flags);
    w.pairs.insert(pair(0), pair::ALLOW);
    let key = ArrivalKey { cookie: LOCAL, source: at("10.0.0.1:40000"), destination: at("10.0.0.2:80") };
    let direct = Arrival { source: WEB.cookie, kind: arrival::DIRECT, opened_ns: 11, ..Arrival::default() };
    let old = Arrival { opened_ns: 10, ..direct };
    let delivery = Arrival { kind: arrival::DELIVERY, opened_ns: 0, ..direct };
    for found in [direct, old, delivery] {
        assert_eq!(recorded(&w, &key, &found), found.kind);
        let spent = Arrival { flags: arrival::SPENT, ..found };
        assert_eq!(recorded(&w, &key, &spent), 0, "as if there were none");
    }
    let refused = |w: &Tables, found: &Arrival, key: &ArrivalKey| {
        let open = || panic!("no question of that");
        admit(recorded(w, key, found), false, key.destination.port, open) == Admission::Refused
    };
    w.pairs.insert(pair(80), pair::DENY);
    assert!(refused(&w, &old, &key));
    assert!(!refused(&w, &direct, &key), "decided after the change");
    assert!(!refused(&w, &old, &ArrivalKey { destination: at("10.0.0.2:81"), ..key }), "another port");
    w.pairs.insert(pair(80), pair::ALLOW);
    assert!(refused(&w, &old, &ArrivalKey { cookie: 3, ..key }), "the address is another's by now");
    w.flags.insert(WEB.cookie, workload::ALWAYS_ENCRYPT);
    assert!(refused(&w, &old, &key));
    w.flags.remove(&WEB.cookie);
    assert!(refused(&w, &old, &key), "the client has left the mesh");
}

#[test]
fn a_workload_that_all_may_reach_needs_no_pair() {
    let mut w = world();
    w.destinations.get_mut(&at("10.0.0.2:0").addr).unwrap().flags = destination::ALLOW_ALL;
    assert_eq!(route(&w, WEB, at("10.0.0.2:80")).verdict, verdict::DIRECT);
}

#[test]
fn always_encrypt_goes_to_the_agent_whichever_side_asks() {
    let mut w = world();
    w.pairs.insert(pair(0), pair::ALLOW);
    let strict = Source { flags: workload::ALWAYS_ENCRYPT, ..WEB };
    assert_eq!(route(&w, strict, at("10.0.0.2:80")).verdict, verdict::AGENT);
    w.destinations.get_mut(&at("10.0.0.2:0").addr).unwrap().flags =
        destination::TO_AGENT | destination::ALLOW_ALL;
    assert_eq!(route(&w, WEB, at("10.0.0.2:80")).verdict, verdict::AGENT);
}

#[test]
fn a_workload_reaches_itself() {
    let strict = Source { flags: workload::ALWAYS_ENCRYPT, ..WEB };
    for source in [WEB, strict] {
        let r = route(&world(), source, at("10.0.0.1:80"));
        assert_eq!(r, Route { destination: WEB.cookie, ..Route::new(verdict::OWN) });
    }
}

#[test]
fn a_service_is_spread_over_all_its_endpoints_alike() {
    let mut w = world();
    w.destinations.get_mut(&at("10.0.0.2:0").addr).unwrap().flags = destination::ALLOW_ALL;
    let mut local = 0;
    for step in 0..1000_u32 {
        w.random = step * (u32::MAX / 1000);
        let r = route(&w, WEB, at("10.96.0.1:80"));
        match r.verdict {
            verdict::DIRECT => {
                local += 1;
                assert_eq!((r.backend, r.destination), (at("10.0.0.2:8080"), LOCAL));
            }
            verdict::AGENT => assert_eq!((r.backend, r.remote_only), (NOWHERE, true)),
            other => panic!("verdict {other}"),
        }
    }
    assert!((495..=505).contains(&local), "{local} of 1000 stayed on the node");
}

#[test]
fn a_service_without_the_port_or_with_a_waypoint_is_for_the_agent() {
    let mut w = world();
    assert_eq!(route(&w, WEB, at("10.96.0.1:81")), Route::new(verdict::AGENT));
    w.services.insert(at("10.96.0.1:80"), Service { total: 2, local: 1, flags: service::TO_AGENT });
    assert_eq!(route(&w, WEB, at("10.96.0.1:80")), Route::new(verdict::AGENT));
    w.services.insert(at("10.96.0.1:80"), Service::default());
    assert_eq!(route(&w, WEB, at("10.96.0.1:80")), Route::new(verdict::AGENT));
}

#[test]
fn the_policy_of_the_picked_endpoint_counts_on_its_own_port() {
    let mut w = world();
    w.services.insert(at("10.96.0.1:80"), Service { total: 1, local: 1, flags: 0 });
    w.pairs.insert(pair(0), pair::ALLOW);
    w.pairs.insert(pair(8080), pair::DENY);
    let r = route(&w, WEB, at("10.96.0.1:80"));
    assert_eq!((r.verdict, r.backend), (verdict::DENY, at("10.0.0.2:8080")));
}
