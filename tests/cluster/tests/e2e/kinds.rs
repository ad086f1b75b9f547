//! Pods of other kinds than a Deployment's: each is of the mesh from its first connection to its last, and nothing is left of
//! it on its node. Pods on the node's own network are left alone.

use crate::{
    calls::{Caller, NOBODY},
    images::APP,
    see, shop,
    stage::{LONG, Stage, timed},
    strict::STRICT,
};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::time::Duration;
use weft_tests::Capture;

const NAMESPACE: &str = "kinds";

/// In every path that is asked for; it must not be seen on the link.
const MARKER: &str = "said-by-kinds-5b12";

pub fn run(stage: &Stage) -> Result<String> {
    stage.namespace(NAMESPACE, true)?;
    shop::open(stage, NAMESPACE)?;
    shop::apply(stage, NAMESPACE, STRICT)?;
    let at = |service: &str| anyhow::Ok(format!("{}:8080", stage.service_address(NAMESPACE, service)?));
    let (near, far) = (at("near")?, at("far")?);
    let manifests = include_str!("kinds/pods.yaml").replace("@IMAGE@", APP).replace("@MARKER@", MARKER);
    let manifests = manifests.replace("@NEAR@", &near).replace("@FAR@", &far);

    let link = stage.cluster.link()?;
    let capture = Capture::start(&link.netns, &link.interface, &stage.scratch("kinds.pcap"))?;
    let result = shop::apply(stage, NAMESPACE, &manifests).and_then(|()| all(stage, &near, &far));
    let wire = capture.stop()?;
    let told = result?;
    ensure!(!wire.contains(MARKER.as_bytes()), "something was said in the clear");
    host(stage, &near, &far)?;
    Ok(told)
}

fn all(stage: &Stage, near: &str, far: &str) -> Result<String> {
    let first = first_words(stage)?;
    let said = side(stage)?;

    let limit = format!("--timeout={}s", LONG.as_secs());
    let wait = ["wait", "--namespace", NAMESPACE, &limit];
    stage.cluster.kubectl(&[&wait[..], &["--for=condition=Complete", "job/once"]].concat())?;
    let noticed = timed(LONG, || left_no_identity(stage, "once"))?;

    stage.cluster.kubectl(&[&wait[..], &["--for=condition=Ready", "pod/bare"]].concat())?;
    stage.rolled_out(NAMESPACE)?;
    let get = ["get", "pods", "--namespace", NAMESPACE, "--selector=app=each", "--output=name"];
    let each = stage.cluster.kubectl(&get)?;
    ensure!(each.lines().count() == stage.cluster.nodes().len(), "the DaemonSet has the pods {each}");
    for pod in each.lines().chain(["pod/bare"]) {
        let caller = Caller { namespace: NAMESPACE, pod };
        for to in [near, far] {
            let served = || {
                let found = caller.answered(stage, to, 3)?;
                ensure!(!found.contains(NOBODY), "{pod} is not served by {to}: {found:?}");
                Ok(())
            };
            timed(LONG, served)?;
        }
    }
    Ok(format!(
        "an init container was served at its attempt {first}; a native sidecar {said} times, before, beside and after the main \
         container; of a Job nothing was left on its node {:.1} s after it was complete; bare pods and a DaemonSet's are served; \
         a pod on the host's network is let in as the kubelet is, and no further",
        noticed.as_secs_f64()
    ))
}

/// At which attempt the init container was served. One that is too early is refused, never unprotected.
fn first_words(stage: &Stage) -> Result<usize> {
    let limit = format!("--timeout={}s", LONG.as_secs());
    let wait = ["wait", "--for=condition=Ready", "pod/eager", "--namespace", NAMESPACE, &limit];
    stage.cluster.kubectl(&wait)?;
    let answers = said(stage, "pod/eager", "first")?;
    let last = answers.last().context("the init container said nothing")?;
    ensure!(last["body"]["name"] == "far", "{last}");
    for early in &answers[..answers.len() - 1] {
        ensure!(early["error"] == "ECONNREFUSED", "an early connection was not refused: {early}");
    }
    Ok(answers.len())
}

/// How often the sidecar was served; its pod's main container ran in the middle of it.
fn side(stage: &Stage) -> Result<usize> {
    let limit = format!("--timeout={}s", LONG.as_secs());
    let wait = ["wait", "--for=condition=Complete", "job/escorted", "--namespace", NAMESPACE, &limit];
    stage.cluster.kubectl(&wait)?;
    let main = said(stage, "job/escorted", "main")?;
    ensure!(main.iter().any(|answer| answer["body"]["name"] == "far"), "the main container: {main:?}");
    let answers = said(stage, "job/escorted", "side")?;
    for part in ["before", "after"] {
        let path = format!("/{MARKER}/{part}");
        let served = answers.iter().any(|answer| answer["body"]["path"] == path.as_str());
        ensure!(served, "the sidecar was not served {part} the main container: {answers:?}");
    }
    Ok(answers.iter().filter(|answer| answer["ok"] == true).count())
}

/// What a container printed, each line a result.
fn said(stage: &Stage, pod: &str, container: &str) -> Result<Vec<Value>> {
    let logs = ["logs", "--namespace", NAMESPACE, pod, "--container", container];
    let said = stage.cluster.kubectl(&logs)?;
    let answers = said.lines().map(|line| serde_json::from_str(line).with_context(|| line.to_owned()));
    let answers = answers.collect::<Result<Vec<Value>>>()?;
    // Also of a pod that is so new that control has not told its address yet, the server sees that address.
    for answer in answers.iter().filter(|answer| answer["ok"] == true) {
        let ip = |socket: &Value| Some(socket.as_str()?.rsplit_once(':')?.0.to_owned());
        ensure!(
            ip(&answer["local"]) == ip(&answer["body"]["peer"]),
            "the server saw another client: {answer}"
        );
    }
    Ok(answers)
}

/// Whether no agent holds a certificate of this account.
fn left_no_identity(stage: &Stage, account: &str) -> Result<()> {
    let held = see::ask(stage, &["certificates"])?;
    ensure!(held.to_string().contains("/sa/web"), "the agents tell of no certificates: {held}");
    let identity = format!("/ns/{NAMESPACE}/sa/{account}\"");
    ensure!(!held.to_string().contains(&identity), "an agent still holds {identity}: {held}");
    Ok(())
}

/// A pod on the node's network is none of the mesh: without an identity, STRICT keeps it out. At their own addresses, pods of
/// its own node cannot tell it from the kubelet, whose probes must come in.
fn host(stage: &Stage, near: &str, far: &str) -> Result<()> {
    let caller = Caller { namespace: NAMESPACE, pod: "host" };
    let find = |to: &str, who: &str| {
        let find = || {
            let found = caller.answered(stage, to, 3)?;
            ensure!(
                found.iter().eq([who]),
                "{found:?} answered a pod on the host's network at {to}, not {who}"
            );
            Ok(())
        };
        timed(Duration::from_secs(30), find)
    };
    find(far, NOBODY)?;
    find(near, NOBODY)?;
    find(&format!("{}:8080", stage.pod_address(NAMESPACE, "near")?), "near")?;
    stage.cluster.kubectl(&["delete", "peerauthentication", "strict", "--namespace", NAMESPACE])?;
    find(far, "far")?;
    find(near, "near")?;
    let status = see::ask(stage, &["status"])?;
    ensure!(
        !status.to_string().contains("\"host\""),
        "an agent took a pod on its node's network in: {status}"
    );
    Ok(())
}
