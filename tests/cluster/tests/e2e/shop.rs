//! The application of the scenarios: a client and servers, each on the node that a scenario wants.

use crate::{images::APP, stage::Stage};
use anyhow::Result;

/// Deploys a client, `web`, on the first node; `near` on the same, and `far` on the second: each serves HTTP on 8080
/// and echoes on 7000, behind a Service of its name.
pub fn open(stage: &Stage, namespace: &str) -> Result<()> {
    let mut all = client("web", "node-1");
    for (name, node) in [("near", "node-1"), ("far", "node-2")] {
        all += &server(name, node);
    }
    apply(stage, namespace, &all)?;
    stage.rolled_out(namespace)
}

/// Applies manifests to a namespace.
pub fn apply(stage: &Stage, namespace: &str, manifests: &str) -> Result<()> {
    stage.cluster.client().run_with(&["apply", "--namespace", namespace, "-f", "-"], manifests).map(drop)
}

/// A pod that does nothing until it is told to.
pub fn client(name: &str, node: &str) -> String {
    CLIENT.replace("@NAME@", name).replace("@NODE@", node).replace("@IMAGE@", APP)
}

/// A server, its account and its Service.
pub fn server(name: &str, node: &str) -> String {
    SERVER.replace("@NAME@", name).replace("@NODE@", node).replace("@IMAGE@", APP)
}

const CLIENT: &str = r#"
apiVersion: v1
kind: ServiceAccount
metadata: {name: "@NAME@"}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: "@NAME@"}
spec:
  selector: {matchLabels: {app: "@NAME@"}}
  template:
    metadata: {labels: {app: "@NAME@"}}
    spec:
      serviceAccountName: "@NAME@"
      nodeSelector: {kubernetes.io/hostname: "@NODE@"}
      terminationGracePeriodSeconds: 1
      containers:
        - {name: app, image: "@IMAGE@", imagePullPolicy: Never, args: [pause]}
---
"#;

/// It goes on serving for a while after it is told to end, as servers should: until every node knows that it ends.
const SERVER: &str = r#"
apiVersion: v1
kind: ServiceAccount
metadata: {name: "@NAME@"}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: "@NAME@"}
spec:
  selector: {matchLabels: {app: "@NAME@"}}
  strategy: {rollingUpdate: {maxSurge: 1, maxUnavailable: 0}}
  template:
    metadata: {labels: {app: "@NAME@"}}
    spec:
      serviceAccountName: "@NAME@"
      nodeSelector: {kubernetes.io/hostname: "@NODE@"}
      terminationGracePeriodSeconds: 6
      containers:
        - name: http
          image: "@IMAGE@"
          imagePullPolicy: Never
          args: [http, --name, "@NAME@", --port, "8080"]
          readinessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1}
          lifecycle: {preStop: {sleep: {seconds: 4}}}
        - name: echo
          image: "@IMAGE@"
          imagePullPolicy: Never
          args: [serve, echo, --port, "7000", --quiet]
          readinessProbe: {tcpSocket: {port: 7000}, periodSeconds: 1}
          lifecycle: {preStop: {sleep: {seconds: 4}}}
---
apiVersion: v1
kind: Service
metadata: {name: "@NAME@"}
spec:
  selector: {app: "@NAME@"}
  ports:
    - {name: http, port: 8080}
    - {name: echo, port: 7000}
---
"#;
