use super::*;
use crate::discovery::proto::discovery::Resource;
use prost::Message;
use std::sync::Arc;
use weft_model::{
    Delta, NetworkAddress, Policy, PolicyKey, Service, ServiceKey, Workload,
    policy::{Action, Clause, Match, PolicyScope, Rule, ServiceAccountMatch, StringMatch},
    service::{LoadBalancing, LocalityMode, Scope, ServicePort},
    workload::{Gateway, GatewayDestination, Health, Hint, Kind as OwnerKind, Locality, PortMapping, Tunnel},
};

fn key(s: &str) -> ServiceKey {
    s.parse().unwrap()
}

fn workload() -> Workload {
    let mut w = Workload::new("c//Pod/shop/web-0", "shop", "web-0", "web");
    w.addresses = vec!["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()];
    w.node = "n1".into();
    w.network = "net1".into();
    w.tunnel = Tunnel::Hbone;
    w.host_network = true;
    w.waypoint = Some(Gateway {
        destination: GatewayDestination::Service(key("shop/wp.shop.svc.cluster.local")),
        hbone_port: 15008,
    });
    w.network_gateway = Some(Gateway {
        destination: GatewayDestination::Address(NetworkAddress::new(
            "net2".into(),
            "192.0.2.1".parse().unwrap(),
        )),
        hbone_port: 15443,
    });
    w.workload_type = OwnerKind::CronJob;
    w.policies = vec!["shop/p".parse().unwrap()];
    w.health = Health::Unhealthy;
    let ports = vec![PortMapping { service_port: 80, target_port: 8080 }];
    w.services = Arc::new([(key("shop/web.shop.svc.cluster.local"), ports)].into());
    let hint = Hint { zones: vec!["z".into(), "y".into()], nodes: vec!["n1".into()] };
    w.hints = Some(Arc::new([(key("shop/web.shop.svc.cluster.local"), hint)].into()));
    w.locality = Locality { region: "r".into(), zone: "z".into(), subzone: "s".into() };
    w
}

fn service() -> Service {
    let mut s = Service::new("shop", "web", "web.shop.svc.cluster.local");
    s.addresses = vec![NetworkAddress::new("net1".into(), "10.1.0.1".parse().unwrap())];
    s.external_addresses = vec![NetworkAddress::new("net1".into(), "192.0.2.7".parse().unwrap())];
    s.ports = vec![ServicePort { service_port: 80, target_port: 0 }];
    s.subject_alt_names = vec!["spiffe://cluster.local/ns/shop/sa/other".into()];
    s.load_balancing = LoadBalancing {
        scopes: vec![Scope::Region, Scope::Zone, Scope::Subzone, Scope::Node, Scope::Cluster, Scope::Network],
        mode: LocalityMode::Failover,
        publish_not_ready: true,
        client_affinity: true,
    };
    s
}

fn policy() -> Policy {
    let strings = || {
        vec![
            StringMatch::Exact("a".into()),
            StringMatch::Prefix("b".into()),
            StringMatch::Suffix("c".into()),
            StringMatch::Presence,
        ]
    };
    let account = |n: &str| ServiceAccountMatch { namespace: "shop".into(), service_account: n.into() };
    let m = Match {
        namespaces: strings(),
        not_namespaces: strings(),
        service_accounts: vec![account("web")],
        not_service_accounts: vec![account("db")],
        principals: strings(),
        not_principals: strings(),
        source_ips: vec!["10.0.0.0/8".parse().unwrap()],
        not_source_ips: vec!["10.0.0.1/32".parse().unwrap()],
        destination_ips: vec!["fd00::/8".parse().unwrap()],
        not_destination_ips: vec!["192.0.2.0/24".parse().unwrap()],
        destination_ports: vec![80, 65535],
        not_destination_ports: vec![0],
    };
    Policy {
        key: PolicyKey { namespace: "shop".into(), name: "p".into() },
        scope: PolicyScope::Selector,
        action: Action::Deny,
        dry_run: true,
        rules: vec![Rule { clauses: vec![Clause { matches: vec![m, Match::default()] }] }, Rule::default()],
    }
}

#[test]
fn a_mapped_block_is_the_block_it_stands_for() {
    let block = |ip: &str, length| {
        let ip: std::net::Ipv6Addr = ip.parse().unwrap();
        field::network("source_ips", &ip.octets(), length)
    };
    assert_eq!(block("::ffff:10.0.0.0", 104), Ok("10.0.0.0/8".parse().unwrap()));
    assert!(block("::ffff:10.0.0.0", 8).is_err(), "of this block no client would be a part");
    assert_eq!(block("fd00::", 8), Ok("fd00::/8".parse().unwrap()));
}

#[test]
fn everything_round_trips() {
    let bare = Workload::new("uid", "shop", "bare", "default");
    let mut draining = workload();
    (draining.health, draining.always_encrypt) = (Health::Draining, true);
    let deltas = [
        Delta::Workload(Box::new(workload())),
        Delta::Workload(Box::new(draining)),
        Delta::Workload(Box::new(bare)),
        Delta::Service(service()),
        Delta::Service(Service::new("shop", "headless", "headless.shop.svc.cluster.local")),
        Delta::Policy(policy()),
    ];
    for delta in deltas {
        let (kind, resource) = encode(&delta).unwrap();
        assert_eq!(*resource.name, *name_of(&delta).1);
        assert_eq!(decode(kind, &resource).unwrap(), delta);
        assert_eq!(kind_of(&delta), kind);
    }
}

#[test]
fn what_istio_elides_gets_its_defaults() {
    let address = wds::Address {
        r#type: Some(wds::address::Type::Workload(wds::Workload { uid: "u".into(), ..Default::default() })),
    };
    let any = Any { type_url: Kind::Address.type_url().into(), value: address.encode_to_vec() };
    let delta = decode(Kind::Address, &Resource { resource: Some(any), ..Default::default() }).unwrap();
    let Delta::Workload(w) = delta else { panic!("{delta:?}") };
    assert_eq!(w.identity().to_string(), "spiffe://cluster.local/ns//sa/default");
    assert_eq!((w.tunnel, w.health), (Tunnel::None, Health::Healthy));
}

/// Encodes `w` after `change`, and decodes it.
fn refused_workload(change: impl Fn(&mut wds::Workload)) -> String {
    let mut w = workload::to_wire(&workload());
    change(&mut w);
    let address = wds::Address { r#type: Some(wds::address::Type::Workload(w)) };
    let any = Any { type_url: Kind::Address.type_url().into(), value: address.encode_to_vec() };
    let resource = Resource { name: "c//Pod/shop/web-0".into(), resource: Some(any), ..Default::default() };
    decode(Kind::Address, &resource).unwrap_err().to_string()
}

#[test]
fn errors_name_the_resource_and_the_field() {
    for (error, field) in [
        (refused_workload(|w| w.tunnel_protocol = 77), "`tunnel_protocol` has the invalid value `77`"),
        (refused_workload(|w| w.network_mode = 77), "`network_mode`"),
        (
            refused_workload(|w| w.addresses.push(vec![1, 2, 3])),
            "`addresses` has the invalid value `3 bytes`",
        ),
        (refused_workload(|w| w.uid.clear()), "`uid` is missing"),
        (refused_workload(|w| w.uid = "other".into()), "`name` has the invalid value `other`"),
        (refused_workload(|w| w.authorization_policies.push("x".into())), "`authorization_policies`"),
        (
            refused_workload(|w| w.services.values_mut().for_each(|l| l.ports[0].target_port = 70_000)),
            "`services.target_port` has the invalid value `70000`",
        ),
        (
            refused_workload(|w| w.hints[0].service = "nobody".into()),
            "`hints.service` has the invalid value `nobody`",
        ),
        (refused_workload(|w| w.waypoint = Some(wds::GatewayAddress::default())), "`waypoint` is missing"),
    ] {
        assert!(error.starts_with("resource `c//Pod/shop/web-0`: "), "{error}");
        assert!(error.contains(field), "{error}");
    }
}

#[test]
fn a_slash_in_a_namespace_does_not_make_another_key() {
    for (namespace, hostname) in [("shop/x", "web.shop"), ("shop", "x/web.shop")] {
        let mut wire = service::to_wire(&service());
        (wire.namespace, wire.hostname) = (namespace.into(), hostname.into());
        let refused = service::from_wire(wire).unwrap_err();
        assert!(matches!(refused, FieldError::Invalid { field: "namespace" | "hostname", .. }), "{refused}");
    }
    let mut wire = policy::to_wire(&policy());
    wire.namespace = "shop/x".into();
    assert!(matches!(policy::from_wire(wire), Err(FieldError::Invalid { field: "namespace", .. })));
}

#[test]
fn a_passthrough_service_is_as_if_nobody_knew_it() {
    let mut wire = service::to_wire(&service());
    wire.load_balancing = Some(wds::LoadBalancing {
        mode: wds::load_balancing::Mode::Passthrough.into(),
        ..Default::default()
    });
    assert_eq!(service::from_wire(wire).unwrap(), Delta::ServiceGone(service().key));
}

#[test]
fn broken_bytes_never_panic() {
    for delta in [Delta::Workload(Box::new(workload())), Delta::Service(service()), Delta::Policy(policy())] {
        let (kind, resource) = encode(&delta).unwrap();
        let whole = resource.resource.clone().unwrap().value;
        for at in 0..whole.len() {
            for flip in [0x01, 0x80, 0xff] {
                let mut bytes = whole.clone();
                bytes[at] ^= flip;
                let mut broken = resource.clone();
                broken.resource.as_mut().unwrap().value = bytes;
                // Either is fine; what counts is that it comes back.
                let _ = decode(kind, &broken);
            }
            let mut cut = resource.clone();
            cut.resource.as_mut().unwrap().value.truncate(at);
            let _ = decode(kind, &cut);
        }
    }
    assert!(decode(Kind::Address, &Resource::default()).is_err());
    let (_, policy) = encode(&Delta::Policy(policy())).unwrap();
    assert!(decode(Kind::Address, &policy).is_err(), "the type must be the response's");
}
