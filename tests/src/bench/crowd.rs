//! Many workloads, as manifests: pods on nodes that nobody lays out, and a service for each hundred of them.

use std::fmt::Write;

const PODS_PER_SERVICE: usize = 100;
const PODS_PER_NODE: usize = 50;

/// The manifests of `count` pods in the mesh and their services.
pub fn manifests(count: usize) -> String {
    let mut text = String::from(NAMESPACE);
    for number in 0..count {
        // A String takes whatever is written to it.
        let _ = pod(&mut text, number);
        if number.is_multiple_of(PODS_PER_SERVICE) {
            let _ = service(&mut text, number / PODS_PER_SERVICE);
        }
    }
    text
}

const NAMESPACE: &str = "\
apiVersion: v1
kind: Namespace
metadata:
  name: crowd
  labels: {istio.io/dataplane-mode: ambient}
";

fn pod(text: &mut String, number: usize) -> std::fmt::Result {
    let (group, node) = (number / PODS_PER_SERVICE, number / PODS_PER_NODE);
    let [_, high, middle, low] = (number as u32).to_be_bytes();
    write!(
        text,
        "\
---
apiVersion: v1
kind: Pod
metadata:
  name: crowd-{number}
  namespace: crowd
  uid: 5f1c7a10-0000-4000-8001-{number:012}
  labels: {{app: crowd-{group}, version: v1}}
spec:
  nodeName: crowd-node-{node}
  serviceAccountName: crowd-{group}
  containers:
    - {{name: app, image: weft.dev/app, ports: [{{name: http, containerPort: 8080}}]}}
status:
  phase: Running
  conditions:
    - {{type: Ready, status: \"True\"}}
  podIP: 10.{ip}.{middle}.{low}
  podIPs: [{{ip: 10.{ip}.{middle}.{low}}}]
",
        ip = 100 + high
    )
}

fn service(text: &mut String, group: usize) -> std::fmt::Result {
    let [_, _, high, low] = (group as u32).to_be_bytes();
    write!(
        text,
        "\
---
apiVersion: v1
kind: Service
metadata:
  name: crowd-{group}
  namespace: crowd
spec:
  type: ClusterIP
  selector: {{app: crowd-{group}}}
  clusterIP: 10.31.{high}.{low}
  clusterIPs: [10.31.{high}.{low}]
  ports:
    - {{name: http, port: 80, targetPort: 8080, protocol: TCP}}
"
    )
}
