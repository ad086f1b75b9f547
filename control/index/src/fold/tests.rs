use super::*;
use crate::Severity;
use serde_json::{Value, json};
use weft_api::Parsed;

fn object(value: Value) -> Change {
    match Object::parse(value).unwrap() {
        Parsed::Object(object, _) => Change::Put(object),
        Parsed::Foreign { kind } => panic!("{kind}"),
    }
}

fn pod(name: &str, ip: &str, labels: Value) -> Change {
    object(json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "shop", "labels": labels},
        "spec": {"nodeName": "n1", "containers": [{"name": "a"}]},
        "status": {"podIPs": [{"ip": ip}]}
    }))
}

fn namespace() -> Change {
    object(json!({"apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": "shop", "labels": {"weft.dev/mesh": "enabled"}}}))
}

fn policy(selector: &str, ports: &str) -> Change {
    object(json!({
        "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
        "metadata": {"name": "p", "namespace": "shop"},
        "spec": {"selector": {"matchLabels": {"app": selector}}, "rules": [{"to": [{"operation": {"ports": [ports]}}]}]}
    }))
}

fn gone(kind: Kind, name: &str) -> Change {
    Change::Gone(ObjectKey { kind, namespace: "shop".into(), name: name.into() })
}

/// The deltas in short.
fn short(deltas: &[Delta]) -> Vec<String> {
    let one = |d: &Delta| match d {
        Delta::Workload(w) => format!("workload {} {:?}", w.name, w.addresses),
        Delta::WorkloadGone(uid) => format!("gone {uid}"),
        Delta::Service(s) => format!("service {} {}", s.name, s.addresses.len()),
        Delta::ServiceGone(key) => format!("gone {key}"),
        Delta::Policy(p) => format!("policy {}", p.key),
        Delta::PolicyGone(key) => format!("gone {key}"),
    };
    deltas.iter().map(one).collect()
}

#[test]
fn only_what_changed_is_told() {
    let mut index = Index::new(IndexConfig::default());
    let all =
        [namespace(), pod("a", "10.0.0.1", json!({"app": "a"})), pod("b", "10.0.0.2", json!({"app": "b"}))];
    assert_eq!(index.apply(all.clone()).len(), 2);
    assert!(index.apply(all).is_empty());
    let told = index.apply([policy("a", "80")]);
    assert_eq!(short(&told), ["policy shop/p", "workload a [10.0.0.1]"]);
    assert_eq!(short(&index.apply([policy("a", "81")])), ["policy shop/p"], "the same pods are selected");
    let told = index.apply([policy("b", "81")]);
    assert_eq!(short(&told), ["workload a [10.0.0.1]", "workload b [10.0.0.2]"]);
    let told = index.apply([gone(Kind::AuthorizationPolicy, "p")]);
    assert_eq!(short(&told), ["gone shop/p", "workload b [10.0.0.2]"]);
    let told = index.apply([gone(Kind::Namespace, "x"), gone(Kind::Pod, "a")]);
    assert_eq!(short(&told), ["gone Kubernetes//Pod/shop/a"]);
}

#[test]
fn a_bad_version_leaves_the_last_good_one_in_force() {
    let mut index = Index::new(IndexConfig::default());
    index.apply([namespace(), pod("a", "10.0.0.1", json!({"app": "a"})), policy("a", "80")]);
    assert!(index.findings().is_empty(), "{:?}", index.findings());
    assert!(index.apply([policy("b", "http"), pod("a", "nowhere", json!({}))]).is_empty());
    let findings = index.findings();
    assert_eq!(findings.len(), 2);
    for finding in &findings {
        assert_eq!(finding.severity, Severity::Error);
        assert!(finding.message.ends_with("(its last good version stays in force)"), "{finding}");
    }
    index.apply([policy("a", "80"), pod("a", "10.0.0.1", json!({"app": "a"}))]);
    assert!(index.findings().is_empty());
}

#[test]
fn an_address_passes_on_when_its_owner_goes() {
    let mut index = Index::new(IndexConfig::default());
    index.apply([pod("a", "10.0.0.1", json!({}))]);
    assert!(index.apply([pod("b", "10.0.0.1", json!({}))]).is_empty(), "the first keeps it");
    assert!(index.findings()[0].to_string().contains("already belongs to Pod shop/a"));
    let told = index.apply([gone(Kind::Pod, "a")]);
    assert_eq!(short(&told), ["gone Kubernetes//Pod/shop/a", "workload b [10.0.0.1]"]);
    assert!(index.findings().is_empty());
}

#[test]
fn slices_take_over_from_the_selector_and_hand_back() {
    let service = object(json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"clusterIP": "10.1.0.1", "selector": {"app": "a"}, "ports": [{"port": 80, "targetPort": 8080}]}
    }));
    let slice = object(json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": "web-x", "namespace": "shop", "labels": {"kubernetes.io/service-name": "web"}},
        "endpoints": [{"addresses": ["10.0.0.2"]}, {"addresses": ["10.0.0.9"]}], "ports": [{"port": 8081}]
    }));
    let ports = |deltas: &[Delta]| -> Vec<(String, Vec<u16>)> {
        let of = |d: &Delta| match d {
            Delta::Workload(w) => {
                Some((w.name.to_string(), w.services.values().flatten().map(|p| p.target_port).collect()))
            }
            _ => None,
        };
        deltas.iter().filter_map(of).collect()
    };
    let mut index = Index::new(IndexConfig::default());
    let told =
        index.apply([service, pod("a", "10.0.0.1", json!({"app": "a"})), pod("b", "10.0.0.2", json!({}))]);
    assert_eq!(ports(&told), [("a".into(), vec![8080]), ("b".into(), vec![])]);
    let told = index.apply([slice]);
    assert_eq!(
        ports(&told),
        [("a".into(), vec![]), ("b".into(), vec![8081]), ("10.0.0.9".into(), vec![8081])]
    );
    // The address turns out to be a pod's.
    let told = index.apply([pod("c", "10.0.0.9", json!({}))]);
    assert_eq!(ports(&told), [("c".into(), vec![8081])]);
    assert!(short(&told).contains(&"gone Kubernetes/discovery.k8s.io/EndpointSlice/shop/10.0.0.9".into()));
    let told = index.apply([gone(Kind::EndpointSlice, "web-x")]);
    assert_eq!(ports(&told), [("a".into(), vec![8080]), ("b".into(), vec![]), ("c".into(), vec![])]);
    assert!(index.findings().is_empty(), "{:?}", index.findings());
}
