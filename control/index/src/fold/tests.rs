mod lives;

use super::*;
use crate::Severity;
use serde_json::{Value, json};
use weft_api::Parsed;
use weft_model::policy::{Action, PolicyScope};

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
        Delta::NodePod(p) => format!("pod {} {} meshed {}", p.uid, p.name, p.meshed),
        Delta::NodePodGone(uid) => format!("gone pod {uid}"),
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

/// What nodes are told of policy `shop/p`: how it acts, on whom, and how many rules it has.
fn told(deltas: &[Delta]) -> Option<(Action, PolicyScope, usize)> {
    deltas.iter().find_map(|delta| match delta {
        Delta::Policy(p) => Some((p.action, p.scope, p.rules.len())),
        _ => None,
    })
}

fn broken(kind: Kind, namespace: &str, selector: &[(&str, &str)]) -> Change {
    let object = json!({"name": "p", "namespace": namespace});
    let metadata = serde_json::from_value(object).unwrap();
    let selector = selector.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    Change::Put(Box::new(Object::Broken(weft_api::Broken { kind, metadata, selector })))
}

#[test]
fn a_policy_that_could_never_be_used_closes_whom_it_is_about() {
    let mut index = Index::new(IndexConfig::default());
    index.apply([namespace(), pod("a", "10.0.0.1", json!({"app": "a"})), pod("b", "10.0.0.2", json!({}))]);
    // Rules that cannot be understood, and a manifest that cannot be read.
    for change in [policy("a", "http"), broken(Kind::AuthorizationPolicy, "shop", &[("app", "a")])] {
        let deltas = index.apply([change]);
        assert_eq!(told(&deltas), Some((Action::Deny, PolicyScope::Selector, 1)));
        assert_eq!(short(&deltas), ["policy shop/p", "workload a [10.0.0.1]"]);
        let text = index.findings().iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        assert!(
            text.contains("every connection is refused to the pods with app=a of namespace shop (shop/a)"),
            "{text}"
        );
        assert!(!text.contains("stays in force"), "{text}");
        let deltas = index.apply([policy("a", "80")]);
        assert_eq!(told(&deltas), Some((Action::Allow, PolicyScope::Selector, 1)), "mended");
        assert!(index.findings().is_empty());
        assert!(
            index.apply([broken(Kind::AuthorizationPolicy, "shop", &[])]).is_empty(),
            "the good one holds"
        );
        assert_eq!(index.apply([gone(Kind::AuthorizationPolicy, "p")]).len(), 2);
    }
    let deltas = index.apply([broken(Kind::AuthorizationPolicy, "shop", &[])]);
    assert_eq!(told(&deltas), Some((Action::Deny, PolicyScope::Namespace, 1)));
    let deltas = index.apply([broken(Kind::AuthorizationPolicy, "weft-system", &[])]);
    assert_eq!(told(&deltas), Some((Action::Deny, PolicyScope::Global, 1)));
    let text = index.findings()[1].to_string();
    assert!(text.contains("to every pod of the mesh (shop/a, shop/b)"), "{text}");
}

#[test]
fn a_policy_that_would_only_record_closes_nothing() {
    let mut index = Index::new(IndexConfig::default());
    let dry = object(json!({
        "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
        "metadata": {"name": "p", "namespace": "shop", "annotations": {"istio.io/dry-run": "true"}},
        "spec": {"rules": [{"to": [{"operation": {"ports": ["http"]}}]}]}
    }));
    assert!(index.apply([namespace(), dry]).is_empty());
    assert_eq!(index.findings().len(), 1);
}

#[test]
fn a_peer_authentication_that_could_never_be_used_refuses_plaintext() {
    let mut index = Index::new(IndexConfig::default());
    index.apply([namespace(), pod("a", "10.0.0.1", json!({"app": "a"})), pod("b", "10.0.0.2", json!({}))]);
    let deltas = index.apply([broken(Kind::PeerAuthentication, "shop", &[("app", "a")])]);
    assert_eq!(short(&deltas), ["policy weft-system/istio_converted_static_strict", "workload a [10.0.0.1]"]);
    let text = index.findings()[0].to_string();
    assert!(
        text.contains("all plaintext is refused to the pods with app=a of namespace shop (shop/a)"),
        "{text}"
    );
    let deltas = index.apply([gone(Kind::PeerAuthentication, "p")]);
    assert_eq!(short(&deltas), ["gone weft-system/istio_converted_static_strict", "workload a [10.0.0.1]"]);
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

/// A pod as the API server shows it, from its placement on.
fn placed(name: &str, uid: &str, more: Value) -> Change {
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "shop", "uid": uid},
        "spec": {"nodeName": "n1", "containers": [{"name": "a"}]},
        "status": {"phase": "Pending"}
    });
    merge(&mut pod, more);
    object(pod)
}

fn merge(into: &mut Value, more: Value) {
    match (into, more) {
        (Value::Object(into), Value::Object(more)) => {
            for (key, value) in more {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, more) => *into = more,
    }
}

#[test]
fn a_node_hears_of_a_pod_when_it_is_placed_and_everybody_when_it_has_an_address() {
    let mut index = Index::new(IndexConfig::default());
    index.apply([namespace()]);
    assert!(index.apply([placed("a", "u1", json!({"spec": {"nodeName": null}}))]).is_empty(), "nowhere yet");
    let told = index.apply([placed("a", "u1", json!({}))]);
    assert_eq!(short(&told), ["pod u1 a meshed true", "workload a []"]);
    let told = index.apply([placed(
        "a",
        "u1",
        json!({"status": {"podIPs": [{"ip": "10.0.0.1"}], "phase": "Running"}}),
    )]);
    assert_eq!(short(&told), ["workload a [10.0.0.1]"]);
    let told = index.apply([placed("a", "u2", json!({}))]);
    assert_eq!(
        short(&told),
        ["gone pod u1", "pod u2 a meshed true", "workload a []"],
        "another of the same name"
    );
    let done = json!({"status": {"phase": "Succeeded", "podIPs": [{"ip": "10.0.0.1"}]}});
    let told = index.apply([placed("a", "u2", done)]);
    assert_eq!(short(&told), ["gone pod u2", "gone Kubernetes//Pod/shop/a"]);
}

#[test]
fn the_label_is_told_to_the_node_and_pods_on_its_network_are_not() {
    let mut index = Index::new(IndexConfig::default());
    let host = json!({"spec": {"hostNetwork": true}, "status": {"podIPs": [{"ip": "10.9.0.1"}]}});
    let told = index.apply([placed("a", "u1", json!({})), placed("h", "u3", host)]);
    assert_eq!(short(&told), ["pod u1 a meshed false", "workload h [10.9.0.1]"]);
    assert_eq!(short(&index.apply([namespace()])), ["pod u1 a meshed true", "workload a []"]);
    let out = json!({"metadata": {"labels": {"weft.dev/mesh": "disabled"}}});
    let told = index.apply([placed("a", "u1", out)]);
    assert_eq!(short(&told), ["pod u1 a meshed false", "gone Kubernetes//Pod/shop/a"]);
    let of_static = json!({"metadata": {"annotations":
        {"kubernetes.io/config.mirror": "h", "kubernetes.io/config.hash": "5ca1ab1e"}}});
    let told = index.apply([placed("s", "u4", of_static)]);
    assert_eq!(short(&told), ["pod 5ca1ab1e s meshed true", "workload s []"], "as its cgroup is called");
}
