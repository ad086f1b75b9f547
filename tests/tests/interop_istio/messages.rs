//! Discovery messages: Istio's are understood in full, and ours by Istio.

use crate::go;
use prost_types::Any;
use serde_json::{Value, json};
use std::{path::Path, sync::Arc};
use weft_io::discovery::{
    Kind,
    convert::{self, decode},
    proto::discovery::Resource,
};
use weft_model::{
    Delta, NetworkAddress, Policy, PolicyKey, Service, ServiceKey, Workload,
    policy::{Action, Clause, Match, PolicyScope, Rule, ServiceAccountMatch, StringMatch},
    service::{LoadBalancing, LocalityMode, Scope, ServicePort},
    workload::{Gateway, GatewayDestination, Health, Hint, Kind as OwnerKind, Locality, PortMapping, Tunnel},
};

fn golden(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("golden/istio/{name}.hex"));
    std::fs::read_to_string(path).unwrap().trim().to_owned()
}

fn from_hex(hex: &str) -> Vec<u8> {
    let digit = |c: u8| u8::try_from(char::from(c).to_digit(16).unwrap()).unwrap();
    hex.as_bytes().chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn decoded(kind: Kind, golden_name: &str) -> Delta {
    let any = Any { type_url: kind.type_url().to_owned(), value: from_hex(&golden(golden_name)) };
    decode(kind, &Resource { resource: Some(any), ..Resource::default() }).unwrap()
}

fn at(network: &str, ip: &str) -> NetworkAddress {
    NetworkAddress::new(network.into(), ip.parse().unwrap())
}

fn key(text: &str) -> ServiceKey {
    text.parse().unwrap()
}

/// What `workload()` in `tests/interop/istio/messages.go` says, as far as Weft reads it.
fn workload() -> Workload {
    let waypoint = GatewayDestination::Service(key("shop/waypoint.shop.svc.cluster.local"));
    let port = |service_port, target_port| PortMapping { service_port, target_port };
    let mut w = Workload::new("Kubernetes//Pod/shop/web-0", "shop", "web-0", "web");
    w.addresses = vec!["10.0.0.7".parse().unwrap(), "fd00::7".parse().unwrap()];
    w.node = "node-1".into();
    w.workload_name = "web-job".into();
    w.canonical_name = "web".into();
    w.trust_domain = "mesh.example".into();
    w.network = "east".into();
    w.tunnel = Tunnel::Hbone;
    w.host_network = true;
    w.waypoint = Some(Gateway { destination: waypoint, hbone_port: 15008 });
    w.network_gateway = Some(Gateway {
        destination: GatewayDestination::Address(at("west", "192.0.2.1")),
        hbone_port: 15443,
    });
    w.workload_type = OwnerKind::CronJob;
    w.canonical_revision = "v2".into();
    w.cluster = "Kubernetes".into();
    w.policies =
        ["shop/only-front", "istio-system/istio_converted_static_strict"].map(|p| p.parse().unwrap()).into();
    w.health = Health::Unhealthy;
    w.services = Arc::new(
        [
            (key("shop/web.shop.svc.cluster.local"), vec![port(80, 8080), port(443, 8443)]),
            (key("shop/admin.shop.svc.cluster.local"), vec![port(1, 65535)]),
        ]
        .into(),
    );
    w.locality = Locality { region: "r1".into(), zone: "z1".into(), subzone: "s1".into() };
    w
}

fn service() -> Service {
    Service {
        addresses: vec![at("east", "10.96.0.1"), at("", "fd00:96::1")],
        ports: vec![
            ServicePort { service_port: 80, target_port: 8080 },
            ServicePort { service_port: 443, target_port: 0 },
        ],
        subject_alt_names: vec!["spiffe://mesh.example/ns/shop/sa/other".into()],
        waypoint: Some(Gateway {
            destination: GatewayDestination::Address(at("east", "10.96.0.9")),
            hbone_port: 15009,
        }),
        load_balancing: LoadBalancing {
            scopes: vec![
                Scope::Network,
                Scope::Region,
                Scope::Zone,
                Scope::Subzone,
                Scope::Node,
                Scope::Cluster,
            ],
            mode: LocalityMode::Failover,
            publish_not_ready: true,
            client_affinity: false,
        },
        ..Service::new("shop", "web", "web.shop.svc.cluster.local")
    }
}

fn policy() -> Policy {
    let exact = |s: &str| StringMatch::Exact(s.into());
    let account = |name: &str| ServiceAccountMatch { namespace: "shop".into(), service_account: name.into() };
    let net = |s: &str| s.parse().unwrap();
    let only = Match {
        namespaces: vec![
            exact("a"),
            StringMatch::Prefix("b".into()),
            StringMatch::Suffix("c".into()),
            StringMatch::Presence,
        ],
        not_namespaces: vec![exact("d")],
        principals: vec![exact("mesh.example/ns/shop/sa/e")],
        not_principals: vec![StringMatch::Suffix("/sa/f".into())],
        source_ips: vec![net("10.0.0.0/8"), net("fd00::/16")],
        not_source_ips: vec![net("10.1.0.0/16")],
        destination_ips: vec![net("10.2.0.0/16")],
        not_destination_ips: vec![net("10.3.0.1/32")],
        destination_ports: vec![80, 65535],
        not_destination_ports: vec![22],
        service_accounts: vec![account("g")],
        not_service_accounts: vec![account("h")],
    };
    Policy {
        key: PolicyKey { namespace: "shop".into(), name: "only-front".into() },
        scope: PolicyScope::Selector,
        action: Action::Deny,
        dry_run: true,
        rules: vec![Rule { clauses: vec![Clause { matches: vec![only] }] }],
    }
}

#[test]
fn istios_workload_is_understood() {
    assert_eq!(decoded(Kind::Address, "workload"), Delta::Workload(workload().into()));
}

#[test]
fn istios_service_is_understood() {
    assert_eq!(decoded(Kind::Address, "service"), Delta::Service(service()));
}

#[test]
fn istios_authorization_is_understood() {
    assert_eq!(decoded(Kind::Authorization, "authorization"), Delta::Policy(policy()));
}

#[test]
fn the_golden_messages_are_what_istio_makes() {
    let Some(program) = go::program() else { return };
    for name in ["workload", "service", "authorization"] {
        assert_eq!(go::run(program, &["encode", name], "").trim(), golden(name), "{name}");
    }
}

/// What Istio reads out of our encoding of `delta`.
fn as_istio_reads(program: &Path, delta: &Delta) -> Value {
    let (kind, resource) = convert::encode(delta).unwrap();
    let name = match kind {
        Kind::Address => "address",
        Kind::Authorization => "authorization",
        Kind::NodePod => panic!("Istio knows nothing of a node's pods"),
    };
    let hex = to_hex(&resource.resource.unwrap().value);
    serde_json::from_str(&go::run(program, &["decode", name], &hex)).unwrap()
}

#[test]
fn istio_understands_our_workload() {
    let Some(program) = go::program() else { return };
    let expected = json!({ "workload": {
        "uid": "Kubernetes//Pod/shop/web-0",
        "name": "web-0",
        "namespace": "shop",
        "addresses": ["CgAABw==", "/QAAAAAAAAAAAAAAAAAABw=="],
        "network": "east",
        "tunnelProtocol": "HBONE",
        "trustDomain": "mesh.example",
        "serviceAccount": "web",
        "waypoint": {
            "hostname": { "namespace": "shop", "hostname": "waypoint.shop.svc.cluster.local" },
            "hboneMtlsPort": 15008,
        },
        "networkGateway": {
            "address": { "network": "west", "address": "wAACAQ==" },
            "hboneMtlsPort": 15443,
        },
        "node": "node-1",
        "canonicalName": "web",
        "canonicalRevision": "v2",
        "workloadType": "CRONJOB",
        "workloadName": "web-job",
        "services": {
            "shop/web.shop.svc.cluster.local": { "ports": [
                { "servicePort": 80, "targetPort": 8080 },
                { "servicePort": 443, "targetPort": 8443 },
            ] },
            "shop/admin.shop.svc.cluster.local": { "ports": [{ "servicePort": 1, "targetPort": 65535 }] },
        },
        "authorizationPolicies": ["shop/only-front", "istio-system/istio_converted_static_strict"],
        "status": "UNHEALTHY",
        "clusterId": "Kubernetes",
        "locality": { "region": "r1", "zone": "z1", "subzone": "s1" },
        "networkMode": "HOST_NETWORK",
    } });
    assert_eq!(as_istio_reads(program, &Delta::Workload(workload().into())), expected);
    // What Istio does not know of is an extension to it, and changes nothing else.
    let mut more = workload();
    more.always_encrypt = true;
    more.health = Health::Draining;
    let hint = Hint { zones: vec!["z1".into()], nodes: vec!["node-1".into()] };
    more.hints = Some(Arc::new([(key("shop/web.shop.svc.cluster.local"), hint)].into()));
    let mut expected = expected;
    expected["workload"]["extensions"] =
        json!([{ "name": "weft.dev/always-encrypt" }, { "name": "weft.dev/draining" }]);
    assert_eq!(as_istio_reads(program, &Delta::Workload(more.into())), expected);
}

#[test]
fn istio_understands_our_service() {
    let Some(program) = go::program() else { return };
    let expected = json!({ "service": {
        "name": "web",
        "namespace": "shop",
        "hostname": "web.shop.svc.cluster.local",
        "addresses": [
            { "network": "east", "address": "CmAAAQ==" },
            { "address": "/QAAlgAAAAAAAAAAAAAAAQ==" },
        ],
        "ports": [{ "servicePort": 80, "targetPort": 8080 }, { "servicePort": 443 }],
        "subjectAltNames": ["spiffe://mesh.example/ns/shop/sa/other"],
        "waypoint": { "address": { "network": "east", "address": "CmAACQ==" }, "hboneMtlsPort": 15009 },
        "loadBalancing": {
            "routingPreference": ["NETWORK", "REGION", "ZONE", "SUBZONE", "NODE", "CLUSTER"],
            "mode": "FAILOVER",
            "healthPolicy": "ALLOW_ALL",
        },
    } });
    assert_eq!(as_istio_reads(program, &Delta::Service(service())), expected);
    let mut more = service();
    more.external_addresses = vec![at("east", "192.0.2.7")];
    more.load_balancing.client_affinity = true;
    assert_eq!(as_istio_reads(program, &Delta::Service(more)), expected, "what Istio skips");
}

#[test]
fn istio_understands_our_policy() {
    let Some(program) = go::program() else { return };
    let block = |address: &str, length: u8| json!({ "address": address, "length": length });
    let account = |name: &str| json!({ "namespace": "shop", "serviceAccount": name });
    let only = json!({
        "namespaces": [{ "exact": "a" }, { "prefix": "b" }, { "suffix": "c" }, { "presence": {} }],
        "notNamespaces": [{ "exact": "d" }],
        "principals": [{ "exact": "mesh.example/ns/shop/sa/e" }],
        "notPrincipals": [{ "suffix": "/sa/f" }],
        "sourceIps": [block("CgAAAA==", 8), block("/QAAAAAAAAAAAAAAAAAAAA==", 16)],
        "notSourceIps": [block("CgEAAA==", 16)],
        "destinationIps": [block("CgIAAA==", 16)],
        "notDestinationIps": [block("CgMAAQ==", 32)],
        "destinationPorts": [80, 65535],
        "notDestinationPorts": [22],
        "serviceAccounts": [account("g")],
        "notServiceAccounts": [account("h")],
    });
    let expected = json!({
        "name": "only-front",
        "namespace": "shop",
        "scope": "WORKLOAD_SELECTOR",
        "action": "DENY",
        "dryRun": true,
        "groups": [{ "rules": [{ "matches": [only] }] }],
    });
    assert_eq!(as_istio_reads(program, &Delta::Policy(policy())), expected);
}
