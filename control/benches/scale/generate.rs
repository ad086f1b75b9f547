//! A mesh of any size, and how it changes: pods become ready and unready, and their EndpointSlices say so.

use serde_json::{Value, json};
use std::{
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::sync::mpsc;
use weft_api::{Object, Parsed};
use weft_control::source::{Batch, Source, SourceError};
use weft_index::Change;

pub const PODS_PER_NODE: usize = 20;
const PODS_PER_SERVICE: usize = 50;
const SERVICES_PER_NAMESPACE: usize = 10;
/// The pod whose revision tells when a change was made.
pub const CLOCK: &str = "pod-0";
/// How often changes are made.
const TICK: Duration = Duration::from_millis(20);

/// Changes a second.
pub static RATE: AtomicUsize = AtomicUsize::new(0);

/// A source of so many workloads.
pub struct Generated(pub usize);

fn object(manifest: Value) -> Change {
    match Object::parse(manifest).unwrap() {
        Parsed::Object(object, _) => Change::Put(object),
        Parsed::Foreign { kind } => panic!("{kind}"),
    }
}

fn namespace(service: usize) -> String {
    format!("team-{}", service / SERVICES_PER_NAMESPACE)
}

fn ip(number: usize) -> String {
    let [_, high, middle, low] = (number as u32).to_be_bytes();
    format!("10.{}.{middle}.{low}", 100 + high)
}

fn pod(number: usize, is_ready: bool, version: &str) -> Change {
    let service = number / PODS_PER_SERVICE;
    let (ready, ip) = (if is_ready { "True" } else { "False" }, ip(number));
    object(json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": format!("pod-{number}"), "namespace": namespace(service),
            "uid": format!("5f1c7a10-0000-4000-8001-{number:012}"), "creationTimestamp": "2026-01-01T00:00:00Z",
            "labels": {"app": format!("app-{service}"), "version": version, "pod-template-hash": "5d8f7c9b4d"},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "controller": true, "uid": "u",
                "name": format!("app-{service}-5d8f7c9b4d")}]},
        "spec": {"nodeName": format!("node-{}", number / PODS_PER_NODE), "serviceAccountName": format!("app-{service}"),
            "containers": [{"name": "app", "ports": [{"name": "http", "containerPort": 8080}]}]},
        "status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}],
            "conditions": [{"type": "Ready", "status": ready}]}
    }))
}

fn service(number: usize) -> Change {
    object(json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": format!("app-{number}"), "namespace": namespace(number)},
        "spec": {"clusterIP": format!("10.96.{}.{}", number >> 8, number & 255), "selector": {"app": format!("app-{number}")},
            "ports": [{"name": "http", "port": 80, "targetPort": "http"}]}
    }))
}

fn slice(service: usize, workloads: usize, unready: Option<usize>) -> Change {
    let members = service * PODS_PER_SERVICE..((service + 1) * PODS_PER_SERVICE).min(workloads);
    let endpoint = |number: usize| {
        json!({"addresses": [ip(number)], "conditions": {"ready": unready != Some(number)},
            "nodeName": format!("node-{}", number / PODS_PER_NODE),
            "targetRef": {"kind": "Pod", "namespace": namespace(service), "name": format!("pod-{number}")}})
    };
    object(json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": format!("app-{service}-x"), "namespace": namespace(service),
            "labels": {"kubernetes.io/service-name": format!("app-{service}")}},
        "endpoints": members.map(endpoint).collect::<Vec<_>>(),
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}]
    }))
}

fn everything(workloads: usize) -> Vec<Change> {
    let services = workloads.div_ceil(PODS_PER_SERVICE);
    let mut changes = Vec::new();
    for number in 0..services.div_ceil(SERVICES_PER_NAMESPACE) {
        let name = format!("team-{number}");
        changes.push(object(json!({"apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": name, "labels": {"weft.dev/mesh": "enabled"}}})));
        // One policy for a tenth of the workloads.
        let app = format!("app-{}", number * SERVICES_PER_NAMESPACE);
        changes.push(object(json!({"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
            "metadata": {"name": "allow", "namespace": name},
            "spec": {"selector": {"matchLabels": {"app": app}},
                "rules": [{"from": [{"source": {"namespaces": [name]}}]}]}})));
    }
    for number in 0..workloads.div_ceil(PODS_PER_NODE) {
        changes.push(object(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": format!("node-{number}"),
            "labels": {"topology.kubernetes.io/region": "r", "topology.kubernetes.io/zone": format!("z{}", number % 3)}}})));
    }
    changes.extend((0..services).map(service));
    changes.extend((0..services).map(|number| slice(number, workloads, None)));
    changes.extend((0..workloads).map(|number| pod(number, true, "v1")));
    changes
}

impl Source for Generated {
    fn start(self: Box<Self>) -> Result<mpsc::Receiver<Batch>, SourceError> {
        let (batches, receiver) = mpsc::channel(1);
        thread::spawn(move || {
            let send = |changes| batches.blocking_send(Batch { changes, ..Batch::default() }).is_ok();
            let mut goes_on = send(everything(self.0));
            let (mut turn, mut owed) = (0, 0.0);
            while goes_on {
                thread::sleep(TICK);
                owed += RATE.load(Ordering::Relaxed) as f64 * TICK.as_secs_f64();
                let mut changes = Vec::new();
                // A pod changes, and its slice says so: two changes.
                while owed >= 2.0 {
                    owed -= 2.0;
                    // Somewhere else each time, and back to where it was the time after.
                    let number = 1 + (turn / 2) * 7919 % (self.0 - 1);
                    let is_ready = turn % 2 == 1;
                    changes.push(pod(number, is_ready, "v1"));
                    changes.push(slice(number / PODS_PER_SERVICE, self.0, (!is_ready).then_some(number)));
                    turn += 1;
                }
                if !changes.is_empty() {
                    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros();
                    changes.push(pod(0, true, &now.to_string()));
                    goes_on = send(changes);
                }
            }
        });
        Ok(receiver)
    }
}
