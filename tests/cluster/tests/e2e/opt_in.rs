//! A namespace joins by its label, without a restart of anything; what leaves a node is encrypted from then on. A pod
//! that says so stays out.

use crate::{
    shop,
    stage::{LABEL, LONG, Stage, timed},
};
use anyhow::{Result, ensure};
use weft_tests::{Capture, wire::Wire};

const NAMESPACE: &str = "joining";

pub fn run(stage: &Stage) -> Result<String> {
    stage.namespace(NAMESPACE, false)?;
    shop::open(stage, NAMESPACE)?;
    let far = stage.service_address(NAMESPACE, "far")?;
    let ask = |marker: &str| {
        let answer = stage.app(
            NAMESPACE,
            "deployment/web",
            &["get", &format!("{far}:8080"), &format!("/{marker}")],
        )?;
        ensure!(answer["ok"] == true && answer["body"]["name"] == "far", "no answer from far: {answer}");
        Ok(())
    };
    // What the capture does not see where there is no mesh, it would not see where there is one either.
    // A node takes a moment to learn of a Service.
    timed(LONG, || ask("begun-04e1"))?;
    let wire = captured(stage, || ask("before-1c66"))?;
    ensure!(wire.contains(b"before-1c66"), "the capture does not see what is in the clear");

    let label = |value: &str| stage.cluster.kubectl(&["label", "namespace", NAMESPACE, value, "--overwrite"]);
    label(&format!("{LABEL}=enabled"))?;
    let joined = timed(LONG, || encrypted(&captured(stage, || ask("joined-7ab0"))?, "joined-7ab0"))?;

    let pod = |value: &str| {
        let selector =
            ["label", "pod", "--namespace", NAMESPACE, "--selector", "app=web", "--overwrite", value];
        stage.cluster.kubectl(&selector)
    };
    pod(&format!("{LABEL}=disabled"))?;
    let left = timed(LONG, || {
        let wire = captured(stage, || ask("alone-e03d"))?;
        ensure!(wire.contains(b"alone-e03d"), "the pod that opted out still uses the mesh");
        Ok(())
    })?;
    pod(&format!("{LABEL}-"))?;
    let back = timed(LONG, || encrypted(&captured(stage, || ask("again-55f1"))?, "again-55f1"))?;

    label(&format!("{LABEL}-"))?;
    let out = timed(LONG, || {
        let wire = captured(stage, || ask("after-90cd"))?;
        ensure!(wire.contains(b"after-90cd"), "the namespace that opted out still uses the mesh");
        Ok(())
    })?;
    let restarts = stage.cluster.json(&["get", "pods", "--namespace", NAMESPACE])?;
    let restarted = restarts["items"].as_array().into_iter().flatten().any(|pod| {
        pod["status"]["containerStatuses"]
            .as_array()
            .into_iter()
            .flatten()
            .any(|one| one["restartCount"] != 0)
    });
    ensure!(!restarted, "a container was restarted");
    Ok(format!(
        "encrypted {:.1} s after the namespace's label; a pod was out after {:.1} s and back after {:.1} s; the namespace \
         was out after {:.1} s; nothing was restarted",
        joined.as_secs_f64(),
        left.as_secs_f64(),
        back.as_secs_f64(),
        out.as_secs_f64()
    ))
}

/// What passes between the nodes meanwhile.
fn captured(stage: &Stage, work: impl FnOnce() -> Result<()>) -> Result<Wire> {
    let link = stage.cluster.link()?;
    let capture = Capture::start(&link.netns, &link.interface, &stage.scratch("opt-in.pcap"))?;
    let result = work();
    let wire = capture.stop()?;
    result.map(|()| wire)
}

/// Whether the tunnel is the only way that was taken.
fn encrypted(wire: &Wire, marker: &str) -> Result<()> {
    ensure!(!wire.contains(marker.as_bytes()), "{marker} crossed the link in the clear");
    ensure!(wire.to_port(8080).next().is_none(), "something came past the tunnel");
    let mut tunnels = wire.to_port(15008).filter(|(_, stream)| !stream.payload.is_empty()).peekable();
    ensure!(tunnels.peek().is_some(), "nothing went to port 15008");
    // One that was open before the capture begins in its middle: its records are application data.
    let tls = tunnels.all(|(_, stream)| stream.is_tls() || matches!(stream.payload[..], [23, 3, 3, ..]));
    ensure!(tls, "what went to port 15008 is not TLS");
    Ok(())
}
