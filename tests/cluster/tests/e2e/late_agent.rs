//! A node whose agent is away: nobody is sent there, and who comes nevertheless says nothing into the mesh that is not
//! protected. When the agent comes, all goes on by itself.

use crate::{
    images::APP,
    install, shop,
    stage::{LONG, Stage, timed},
};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::{
    thread,
    time::{Duration, Instant},
};
use weft_tests::Capture;

const NAMESPACE: &str = "unattended";
const NODE: &str = "node-2";
const TAINT: &str = "weft.dev/agent-not-ready";
const MARKER: &str = "unattended-words-77d0";

/// How long the pods are watched while the agent is away.
const WATCHED: Duration = Duration::from_secs(8);

pub fn run(stage: &Stage) -> Result<String> {
    let result = away(stage);
    // Whatever became of it, the node is as before.
    stage.cluster.kubectl(&["label", "node", NODE, &format!("{}-", install::KEPT_AWAY)])?;
    let taints = stage.cluster.json(&["get", "node", NODE])?;
    if taints["spec"]["taints"].to_string().contains(TAINT) {
        stage.cluster.kubectl(&["taint", "node", NODE, &format!("{TAINT}-")])?;
    }
    stage.rolled_out(crate::stage::SYSTEM)?;
    result
}

fn away(stage: &Stage) -> Result<String> {
    stage.namespace(NAMESPACE, true)?;
    shop::open(stage, NAMESPACE)?;
    let near = format!("{}:8080", stage.service_address(NAMESPACE, "near")?);
    // The guard keeps pods from what the node's agent knew to be of the mesh.
    timed(LONG, || {
        let answer = stage.app(NAMESPACE, "deployment/far", &["get", &near, "--patience", "3"])?;
        ensure!(answer["ok"] == true, "{answer}");
        Ok(())
    })?;
    stage.cluster.kubectl(&["label", "node", NODE, &format!("{}=true", install::KEPT_AWAY)])?;
    timed(LONG, || {
        ensure!(stage.agent(NODE).is_err(), "the agent of node-2 is still there");
        Ok(())
    })?;
    stage.cluster.kubectl(&["taint", "node", NODE, &format!("{TAINT}=:NoSchedule")])?;

    let link = stage.cluster.link()?;
    let capture = Capture::start(&link.netns, &link.interface, &stage.scratch("late-agent.pcap"))?;
    let manifests = PODS.replace("@IMAGE@", APP).replace("@TO@", &format!("{near} /{MARKER}"));
    let result = shop::apply(stage, NAMESPACE, &manifests).and_then(|()| unprotected(stage));
    let begun = Instant::now();
    let result = result.and_then(|refused| {
        stage.cluster.kubectl(&["label", "node", NODE, &format!("{}-", install::KEPT_AWAY)])?;
        Ok((refused, attended(stage, begun)?))
    });
    let wire = capture.stop()?;
    let (refused, (untainted, served, placed)) = result?;
    ensure!(
        !wire.contains(MARKER.as_bytes()),
        "a pod of the mesh spoke in the clear while its node had no agent"
    );
    Ok(format!(
        "without an agent {refused} calls into the mesh were refused and none was in the clear, the pod without a toleration \
         waited; once the agent was let in, the taint was gone after {:.1} s, the first pod served after {:.1} s without a \
         restart, the other one ran after {:.1} s",
        untainted.as_secs_f64(),
        served.as_secs_f64(),
        placed.as_secs_f64()
    ))
}

/// What becomes of pods meanwhile: how many calls were refused.
fn unprotected(stage: &Stage) -> Result<usize> {
    timed(LONG, || {
        ensure!(phase(stage, "tolerant")? == "Running", "the pod that tolerates the taint does not run");
        Ok(())
    })?;
    thread::sleep(WATCHED);
    let answers = said(stage)?;
    let refused = answers.iter().filter(|answer| answer["error"] == "ECONNREFUSED").count();
    ensure!(refused > 0 && refused == answers.len(), "calls without an agent were not refused: {answers:?}");
    ensure!(phase(stage, "waiting")? == "Pending", "a pod was placed on a node without an agent");
    let node = stage.cluster.json(&["get", "node", NODE])?;
    ensure!(node["spec"]["taints"].to_string().contains(TAINT), "the taint is gone without an agent: {node}");
    Ok(refused)
}

/// What becomes of them when the agent comes: when the taint was gone, the calls were served, and the other pod ran.
fn attended(stage: &Stage, begun: Instant) -> Result<(Duration, Duration, Duration)> {
    timed(LONG, || {
        let node = stage.cluster.json(&["get", "node", NODE])?;
        let taints = &node["spec"]["taints"];
        ensure!(!taints.to_string().contains(TAINT), "the agent is there, and the taint as well: {taints}");
        Ok(())
    })?;
    let untainted = begun.elapsed();
    timed(LONG, || {
        let answers = said(stage)?;
        let last = answers.last().context("no calls")?;
        ensure!(last["body"]["name"] == "near", "calls are not served: {last}");
        Ok(())
    })?;
    let served = begun.elapsed();
    timed(LONG, || {
        ensure!(phase(stage, "waiting")? == "Running", "the pod that waited does not run");
        Ok(())
    })?;
    let placed = begun.elapsed();
    let pod = stage.cluster.json(&["get", "pod", "tolerant", "--namespace", NAMESPACE])?;
    let restarts = &pod["status"]["containerStatuses"][0]["restartCount"];
    ensure!(*restarts == 0, "the pod was restarted {restarts} times");
    Ok((untainted, served, placed))
}

fn phase(stage: &Stage, pod: &str) -> Result<String> {
    let get = ["get", "pod", pod, "--namespace", NAMESPACE, "--output", "jsonpath={.status.phase}"];
    stage.cluster.kubectl(&get)
}

/// The results of the calls.
fn said(stage: &Stage) -> Result<Vec<Value>> {
    let said = stage.cluster.kubectl(&["logs", "tolerant", "--namespace", NAMESPACE])?;
    said.lines().map(|line| serde_json::from_str(line).with_context(|| line.to_owned())).collect()
}

const PODS: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: tolerant}
spec:
  nodeSelector: {kubernetes.io/hostname: node-2}
  tolerations: [{key: weft.dev/agent-not-ready, operator: Exists}]
  terminationGracePeriodSeconds: 1
  containers:
    - name: app
      image: "@IMAGE@"
      imagePullPolicy: Never
      command: [/bin/sh, -c, "while :; do weft-app get @TO@ --patience 2; sleep 0.2; done"]
---
apiVersion: v1
kind: Pod
metadata: {name: waiting}
spec:
  nodeSelector: {kubernetes.io/hostname: node-2}
  terminationGracePeriodSeconds: 1
  containers:
    - {name: app, image: "@IMAGE@", imagePullPolicy: Never, args: [pause]}
"#;
