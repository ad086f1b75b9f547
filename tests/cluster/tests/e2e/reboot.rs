//! A node loses its power. When it is back, its pods are of the mesh again, and none of them ever sends in the clear.

use crate::{
    images::APP,
    shop,
    stage::{LONG, Stage, timed},
};
use anyhow::{Result, ensure};
use std::time::Instant;
use weft_tests::Capture;

const NAMESPACE: &str = "rebooted";

/// What the pod that starts with the node sends, from its first moment on.
const MARKER: &str = "first-words-3f9a";

pub fn run(stage: &Stage) -> Result<String> {
    stage.namespace(NAMESPACE, true)?;
    shop::open(stage, NAMESPACE)?;
    let near = stage.service_address(NAMESPACE, "near")?;
    shop::apply(
        stage,
        NAMESPACE,
        &EAGER.replace("@TO@", &format!("{near}:8080 /{MARKER}")).replace("@IMAGE@", APP),
    )?;
    stage.rolled_out(NAMESPACE)?;
    let far = format!("{}:8080", stage.service_address(NAMESPACE, "far")?);
    let ask = || {
        let answer = stage.app(NAMESPACE, "deployment/web", &["get", &far, "--patience", "3"])?;
        ensure!(answer["ok"] == true, "far does not answer: {answer}");
        Ok(())
    };
    timed(LONG, ask)?;

    let link = stage.cluster.link()?;
    let capture = Capture::start(&link.netns, &link.interface, &stage.scratch("reboot.pcap"))?;
    let begun = Instant::now();
    let result = stage.cluster.reboot(stage.cluster.node("node-2")?).and_then(|()| {
        let ready = begun.elapsed();
        stage.rolled_out(NAMESPACE)?;
        // The pod of before may be said to be ready until kubelet has looked.
        timed(LONG, ask)?;
        Ok((ready, begun.elapsed()))
    });
    let eager = timed(LONG, || {
        let selector = ["logs", "--namespace", NAMESPACE, "deployment/eager", "--tail=5"];
        let said = stage.cluster.kubectl(&selector)?;
        ensure!(said.contains("near"), "the pod that starts with the node gets no answer: {said}");
        Ok(())
    });
    let wire = capture.stop()?;
    let (ready, served) = result?;
    eager?;
    ensure!(!wire.contains(MARKER.as_bytes()), "a pod of the mesh sent in the clear while its node started");
    Ok(format!(
        "the node is ready after {:.1} s, its pods serve by the mesh after {:.1} s; none of {} frames on the link was in the \
         clear",
        ready.as_secs_f64(),
        served.as_secs_f64(),
        wire.frames
    ))
}

/// It asks as often as it can.
const EAGER: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: eager}
spec:
  selector: {matchLabels: {app: eager}}
  template:
    metadata: {labels: {app: eager}}
    spec:
      nodeSelector: {kubernetes.io/hostname: node-2}
      terminationGracePeriodSeconds: 1
      containers:
        - name: app
          image: "@IMAGE@"
          imagePullPolicy: Never
          command: [/bin/sh, -c, "while :; do weft-app get @TO@ --patience 1; sleep 0.1; done"]
"#;
