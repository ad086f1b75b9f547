//! Pods and services over their lives: Jobs, StatefulSets, names for elsewhere.

use super::*;
use weft_model::{ServiceKey, Workload, workload::Health};

/// What `deltas` say of the workload of pod `name`, last.
fn workload<'a>(deltas: &'a [Delta], name: &str) -> Option<&'a Workload> {
    deltas.iter().rev().find_map(|d| match d {
        Delta::Workload(w) if *w.name == *name => Some(&**w),
        _ => None,
    })
}

fn at(ip: &str, phase: &str, ready: bool) -> Value {
    let ready = if ready { "True" } else { "False" };
    json!({"status": {"phase": phase, "podIPs": [{"ip": ip}], "conditions": [{"type": "Ready", "status": ready}]}})
}

fn with(mut value: Value, more: Value) -> Value {
    merge(&mut value, more);
    value
}

#[test]
fn a_job_s_pod_is_in_from_its_placement_and_gives_its_address_up_when_it_is_done() {
    let mut index = Index::new(IndexConfig::default());
    let containers = json!({"metadata": {"labels": {"app": "a"}}, "spec": {
        "restartPolicy": "OnFailure",
        "initContainers": [
            {"name": "migrate"},
            {"name": "log", "restartPolicy": "Always", "ports": [{"name": "tail", "containerPort": 9000}]}
        ]
    }});
    let service = object(json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "logs", "namespace": "shop"},
        "spec": {"clusterIP": "10.1.0.1", "selector": {"app": "a"}, "ports": [{"port": 80, "targetPort": "tail"}]}
    }));
    index.apply([namespace(), policy("a", "80"), service]);
    let told = index.apply([placed("job", "u1", containers.clone())]);
    assert_eq!(short(&told), ["pod u1 job meshed true", "workload job []"]);
    let early = workload(&told, "job").unwrap();
    assert!(early.is_meshed() && early.policies.len() == 1, "what holds for it is known before it runs");
    // Init containers run: it has its address, and is not ready.
    let told = index.apply([placed("job", "u1", with(containers.clone(), at("10.0.0.1", "Pending", false)))]);
    assert_eq!(short(&told), ["workload job [10.0.0.1]"]);
    assert_eq!(workload(&told, "job").unwrap().health, Health::Unhealthy);
    let told = index.apply([placed("job", "u1", with(containers.clone(), at("10.0.0.1", "Running", true)))]);
    let running = workload(&told, "job").unwrap();
    assert_eq!(running.health, Health::Healthy);
    let port = running.services.values().flatten().map(|p| p.target_port).collect::<Vec<_>>();
    assert_eq!(port, [9000], "a native sidecar's port has a name like any other");
    for phase in ["Succeeded", "Failed"] {
        // The node gives the address to the next one while the object of the first stays.
        let told = index.apply([
            placed("next", "u2", with(containers.clone(), at("10.0.0.1", "Running", true))),
            placed("job", "u1", with(containers.clone(), at("10.0.0.1", phase, false))),
        ]);
        let told = short(&told);
        for expected in ["gone pod u1", "gone Kubernetes//Pod/shop/job", "workload next [10.0.0.1]"] {
            assert!(told.iter().any(|t| t == expected), "{phase}: {expected} in {told:?}");
        }
        assert!(index.findings().is_empty(), "{:?}", index.findings());
        index.apply([gone(Kind::Pod, "next")]);
        index.apply([placed("job", "u1", with(containers.clone(), at("10.0.0.1", "Running", true)))]);
    }
}

/// A headless service, and its slice with one pod.
fn headless(ip: &str, uid: &str, conditions: Value) -> [Change; 2] {
    [
        object(json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "db", "namespace": "shop"},
            "spec": {"clusterIP": "None", "selector": {"app": "db"}, "publishNotReadyAddresses": true, "ports": [{"port": 5432}]}
        })),
        object(json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": "db-x", "namespace": "shop", "labels": {"kubernetes.io/service-name": "db"}},
            "ports": [{"name": "", "port": 5432}],
            "endpoints": [{"addresses": [ip], "conditions": conditions, "hostname": "db-0",
                "targetRef": {"kind": "Pod", "namespace": "shop", "name": "db-0", "uid": uid}}]
        })),
    ]
}

#[test]
fn a_pod_that_comes_back_under_its_name_is_another_one_at_another_address() {
    let label = json!({"metadata": {"labels": {"app": "db"}}});
    let first = || placed("db-0", "u1", with(label.clone(), at("10.0.0.1", "Running", true)));
    let ready = json!({"ready": true, "serving": true, "terminating": false});
    let start = || {
        let mut index = Index::new(IndexConfig::default());
        let slice = headless("10.0.0.1", "u1", ready.clone());
        let told = index.apply([namespace(), policy("db", "5432"), first()].into_iter().chain(slice));
        let w = workload(&told, "db-0").unwrap();
        assert!(w.is_meshed() && w.policies.len() == 1 && w.services.len() == 1);
        let service =
            told.iter().find_map(|d| if let Delta::Service(s) = d { Some(s) } else { None }).unwrap();
        assert!(service.addresses.is_empty() && service.load_balancing.publish_not_ready);
        index
    };
    // It is told to end. What publishes everybody publishes it, too.
    let mut index = start();
    let ending = json!({"ready": true, "serving": true, "terminating": true});
    let told = index.apply(headless("10.0.0.1", "u1", ending));
    assert_eq!(workload(&told, "db-0").unwrap().health, Health::Draining);
    let told = index.apply([gone(Kind::Pod, "db-0")]);
    assert_eq!(
        short(&told),
        ["gone pod u1", "gone Kubernetes//Pod/shop/db-0"],
        "the old address leads nowhere"
    );
    // Another pod may have the old address at once, and the name comes back before the slice follows.
    let told = index
        .apply([placed("other", "u9", at("10.0.0.1", "Running", true)), placed("db-0", "u2", label.clone())]);
    assert!(short(&told).contains(&"workload other [10.0.0.1]".into()), "{:?}", short(&told));
    let told = index.apply([placed("db-0", "u2", with(label.clone(), at("10.0.0.7", "Running", false)))]);
    assert_eq!(short(&told), ["workload db-0 [10.0.0.7]"], "known before it is ready");
    let stale = workload(&told, "db-0").unwrap();
    assert!(stale.services.is_empty(), "the slice still means the old one");
    let told = index.apply(headless("10.0.0.7", "u2", ready.clone()));
    let w = workload(&told, "db-0").unwrap();
    assert!(w.is_meshed() && w.policies.len() == 1 && w.services.len() == 1);

    // Where nobody saw the end of the old one, the new one takes its place in one step.
    let mut index = start();
    let told = index.apply([placed("db-0", "u2", with(label, at("10.0.0.7", "Running", true)))]);
    assert_eq!(short(&told), ["gone pod u1", "pod u2 db-0 meshed true", "workload db-0 [10.0.0.7]"]);
    let told = index.apply([placed("other", "u9", at("10.0.0.1", "Running", true))]);
    assert_eq!(short(&told), ["pod u9 other meshed true", "workload other [10.0.0.1]"]);
}

#[test]
fn a_service_that_becomes_a_name_for_elsewhere_is_none_until_it_is_one_again() {
    let service = |kind: &str, ip: &str| {
        object(json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "shop"},
            "spec": {"type": kind, "clusterIP": ip, "externalName": "example.org", "selector": {"app": "a"},
                "externalIPs": ["192.0.2.1"], "ports": [{"port": 80}]}
        }))
    };
    let mut index = Index::new(IndexConfig::default());
    let pod = || pod("a", "10.0.0.1", json!({"app": "a"}));
    let names = |deltas: &[Delta]| {
        workload(deltas, "a").map(|w| w.services.keys().map(ServiceKey::to_string).collect::<Vec<_>>())
    };
    let key = "shop/web.shop.svc.cluster.local";
    let told = index.apply([service("ClusterIP", "10.1.0.1"), pod()]);
    assert_eq!(names(&told), Some(vec![key.to_owned()]));
    let told = index.apply([service("ExternalName", "")]);
    assert_eq!(short(&told), [format!("gone {key}"), "workload a [10.0.0.1]".into()]);
    assert_eq!(names(&told), Some(vec![]));
    assert!(index.findings().is_empty(), "{:?}", index.findings());
    let told = index.apply([service("ClusterIP", "10.1.0.2")]);
    assert_eq!(short(&told), ["service web 1", "workload a [10.0.0.1]"]);
    assert_eq!(names(&told), Some(vec![key.to_owned()]));
}
