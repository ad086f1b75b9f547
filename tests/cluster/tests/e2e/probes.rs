//! kubelet's probes of all kinds reach pods under STRICT: pods become ready, and none is restarted.

use crate::{images::APP, shop, stage::Stage, strict::STRICT};
use anyhow::{Context, Result, ensure};
use std::{thread, time::Duration};

const NAMESPACE: &str = "probed";

/// Long enough for a liveness probe that fails to have its container restarted.
const WATCHED: Duration = Duration::from_secs(10);

pub fn run(stage: &Stage) -> Result<String> {
    stage.namespace(NAMESPACE, true)?;
    shop::apply(stage, NAMESPACE, STRICT)?;
    let kinds = ["httpGet: {path: /, port: 8080}", "tcpSocket: {port: 8080}", "grpc: {port: 9000}", EXEC];
    let pods: String = kinds.iter().enumerate().map(|(number, probe)| pod(number, probe)).collect();
    shop::apply(stage, NAMESPACE, &pods)?;
    stage.rolled_out(NAMESPACE)?;
    thread::sleep(WATCHED);
    let pods = stage.cluster.json(&["get", "pods", "--namespace", NAMESPACE])?;
    let pods = pods["items"].as_array().context("no list of pods")?;
    ensure!(pods.len() == 2 * kinds.len(), "{} pods", pods.len());
    for pod in pods {
        let (name, status) = (&pod["metadata"]["name"], &pod["status"]["containerStatuses"]);
        let containers = status.as_array().with_context(|| format!("{name} has no containers"))?;
        let well = containers.iter().all(|one| one["ready"] == true && one["restartCount"] == 0);
        ensure!(well, "{name}: {status}");
    }
    // The same server refuses everybody else without an identity: the node itself is let in for its probes alone.
    Ok(format!("{} pods on two nodes ready, none restarted in {} s", pods.len(), WATCHED.as_secs()))
}

const EXEC: &str = "exec: {command: [weft-app, get, '127.0.0.1:8080']}";

/// One on each node, with the probe in all three roles.
fn pod(number: usize, probe: &str) -> String {
    ["node-1", "node-2"]
        .iter()
        .map(|node| {
            POD.replace("@NAME@", &format!("probe-{number}-{node}"))
                .replace("@NODE@", node)
                .replace("@PROBE@", probe)
                .replace("@IMAGE@", APP)
        })
        .collect()
}

const POD: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: "@NAME@"}
spec:
  selector: {matchLabels: {app: "@NAME@"}}
  template:
    metadata: {labels: {app: "@NAME@"}}
    spec:
      nodeSelector: {kubernetes.io/hostname: "@NODE@"}
      terminationGracePeriodSeconds: 1
      containers:
        - name: http
          image: "@IMAGE@"
          imagePullPolicy: Never
          args: [http, --name, probed]
          startupProbe: {@PROBE@, periodSeconds: 1, failureThreshold: 60}
          readinessProbe: {@PROBE@, periodSeconds: 1, timeoutSeconds: 2}
          livenessProbe: {@PROBE@, periodSeconds: 2, timeoutSeconds: 2, failureThreshold: 2}
        - {name: health, image: "@IMAGE@", imagePullPolicy: Never, args: [health, --port, "9000"]}
---
"#;
