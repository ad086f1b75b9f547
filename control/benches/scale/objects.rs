//! Objects that are made up: namespaces, nodes, services, pods, endpoint slices, a policy in each namespace.

use serde_json::{Value, json};
use std::time::{SystemTime, UNIX_EPOCH};
use weft_api::{Object, Parsed};
use weft_index::Change;

const PODS_PER_NODE: usize = 20;
const PODS_PER_SERVICE: usize = 10;
const SERVICES_PER_NAMESPACE: usize = 20;

/// How many services stand before so many workloads.
pub fn services(workloads: usize) -> usize {
    workloads.div_ceil(PODS_PER_SERVICE)
}

/// Everything there is at the start.
pub fn all(workloads: usize) -> impl Iterator<Item = Change> {
    let services = services(workloads);
    let namespaces = (0..services.div_ceil(SERVICES_PER_NAMESPACE)).flat_map(|n| {
        let name = format!("team-{n}");
        [
            json!({"apiVersion": "v1", "kind": "Namespace",
                   "metadata": {"name": name, "labels": {"weft.dev/mesh": "enabled"}}}),
            json!({"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
                   "metadata": {"name": "own", "namespace": name},
                   "spec": {"rules": [{"from": [{"source": {"namespaces": [name]}}]}]}}),
        ]
    });
    let nodes = (0..workloads.div_ceil(PODS_PER_NODE)).map(|n| {
        let labels = json!({"topology.kubernetes.io/region": "here", "topology.kubernetes.io/zone": format!("z{}", n % 3)});
        json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": format!("node-{n}"), "labels": labels}})
    });
    let slices = (0..services).flat_map(move |n| [service(n), slice(n, workloads)]);
    namespaces.chain(nodes).chain(slices).chain((0..workloads).map(|n| pod(n, 0))).map(put)
}

/// The `n`th change: a pod is another than before. It carries the moment, so that its arrival can be timed.
pub fn change(n: usize, workloads: usize) -> Change {
    // Neighbours in time are far apart in the mesh.
    put(pod(n.wrapping_mul(7919) % workloads, now()))
}

/// Milliseconds since the epoch.
pub fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or_default()
}

fn namespace_of(service: usize) -> String {
    format!("team-{}", service / SERVICES_PER_NAMESPACE)
}

fn address(pod: usize) -> String {
    format!("10.{}.{}.{}", pod >> 16, (pod >> 8) & 255, pod & 255)
}

fn pod(n: usize, revision: u64) -> Value {
    let service = n / PODS_PER_SERVICE;
    let app = format!("service-{service}");
    let name = format!("{app}-7d4b9c6f5-{n:06}");
    let labels = json!({"app": app, "service.istio.io/canonical-revision": revision.to_string()});
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": name, "namespace": namespace_of(service), "labels": labels,
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": format!("{app}-7d4b9c6f5"),
                                 "uid": "3f7c", "controller": true}],
        },
        "spec": {"nodeName": format!("node-{}", n / PODS_PER_NODE), "serviceAccountName": app,
                 "containers": [{"name": "app", "ports": [{"containerPort": 8080}]}]},
        "status": {"phase": "Running", "podIP": address(n), "podIPs": [{"ip": address(n)}],
                   "conditions": [{"type": "Ready", "status": "True"}]},
    })
}

fn service(n: usize) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": format!("service-{n}"), "namespace": namespace_of(n)},
        "spec": {"clusterIP": format!("172.{}.{}.{}", 16 + (n >> 16), (n >> 8) & 255, n & 255),
                 "selector": {"app": format!("service-{n}")}, "ports": [{"port": 80, "targetPort": 8080}]},
    })
}

fn slice(n: usize, workloads: usize) -> Value {
    let pods = (n * PODS_PER_SERVICE..workloads.min((n + 1) * PODS_PER_SERVICE)).map(|pod| {
        let name = format!("service-{n}-7d4b9c6f5-{pod:06}");
        json!({"addresses": [address(pod)], "conditions": {"ready": true},
               "targetRef": {"kind": "Pod", "name": name, "namespace": namespace_of(n)}})
    });
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": format!("service-{n}-a"), "namespace": namespace_of(n),
                     "labels": {"kubernetes.io/service-name": format!("service-{n}")}},
        "endpoints": pods.collect::<Vec<_>>(), "ports": [{"port": 8080}],
    })
}

fn put(manifest: Value) -> Change {
    match Object::parse(manifest) {
        Ok(Parsed::Object(object, unknown)) if unknown.is_empty() => Change::Put(object),
        other => panic!("a manifest that was made up is wrong: {other:?}"),
    }
}
