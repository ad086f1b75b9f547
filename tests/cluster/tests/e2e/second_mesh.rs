//! Another mesh in the same cluster: a pod that carries its proxy is left alone, and it is said where that is so.

use crate::{
    calls::Caller,
    images::APP,
    see, shop,
    stage::{LONG, Stage, timed},
};
use anyhow::{Context, Result, ensure};
use weft_tests::Capture;

const NAMESPACE: &str = "shared";

/// What the pod of the other mesh says, and what one of ours says.
const MARKERS: [&str; 2] = ["theirs-19e7", "ours-c30d"];

pub fn run(stage: &Stage) -> Result<String> {
    stage.namespace(NAMESPACE, true)?;
    stage.cluster.kubectl(&["label", "namespace", NAMESPACE, "istio-injection=enabled"])?;
    shop::open(stage, NAMESPACE)?;
    shop::apply(stage, NAMESPACE, &SIDED.replace("@IMAGE@", APP))?;
    let limit = format!("--timeout={}s", LONG.as_secs());
    stage.cluster.kubectl(&[
        "wait",
        "--for=condition=Ready",
        "pod/sided",
        "--namespace",
        NAMESPACE,
        &limit,
    ])?;
    let told = timed(LONG, || {
        let said = events(stage)?;
        for of in ["istio-injection", "sided"] {
            ensure!(
                said.iter().any(|event| event.contains(of)),
                "no Event at {NAMESPACE} tells of {of}: {said:?}"
            );
        }
        Ok(())
    })?;

    let far = format!("{}:8080", stage.service_address(NAMESPACE, "far")?);
    let ask = |pod: &str, marker: &str| {
        let caller = Caller { namespace: NAMESPACE, pod };
        let found = caller.answered(stage, &format!("{far} /{marker}"), 2)?;
        ensure!(found.iter().eq(["far"]), "{pod} is answered by {found:?}");
        Ok(())
    };
    timed(LONG, || ask("deployment/web", "begun"))?;
    let link = stage.cluster.link()?;
    let capture = Capture::start(&link.netns, &link.interface, &stage.scratch("second-mesh.pcap"))?;
    let result = ask("sided", MARKERS[0]).and_then(|()| ask("deployment/web", MARKERS[1]));
    let wire = capture.stop()?;
    result?;
    ensure!(wire.contains(MARKERS[0].as_bytes()), "the other mesh's pod was captured");
    ensure!(!wire.contains(MARKERS[1].as_bytes()), "our own pod spoke in the clear");
    for (pod, state) in [("sided", "outside"), ("web-", "enrolled")] {
        let said = see::ask(stage, &["--node", "node-1", "status"])?;
        let pods = said["nodes"]["node-1"]["pods"].as_array().context("no pods in the answer")?;
        let ours = pods.iter().filter(|one| one["namespace"] == NAMESPACE);
        let mut named = ours.filter(|one| one["name"].as_str().is_some_and(|name| name.starts_with(pod)));
        ensure!(named.next().is_some_and(|one| one["state"] == state), "{pod} is not {state}: {said}");
    }
    Ok(format!(
        "a pod with Istio's sidecar was left alone; Events at the namespace told of it and of the other mesh's label after {:.1} s",
        told.as_secs_f64()
    ))
}

/// What is said about the namespace.
fn events(stage: &Stage) -> Result<Vec<String>> {
    let about = format!("--field-selector=involvedObject.kind=Namespace,involvedObject.name={NAMESPACE}");
    let events = stage.cluster.json(&["get", "events", "--all-namespaces", &about])?;
    let events = events["items"].as_array().context("no list of Events")?;
    Ok(events.iter().map(|event| event["message"].as_str().unwrap_or_default().to_owned()).collect())
}

/// As Istio's injector would leave it, as far as its containers' names go.
const SIDED: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: sided}
spec:
  nodeSelector: {kubernetes.io/hostname: node-1}
  terminationGracePeriodSeconds: 1
  containers:
    - {name: app, image: "@IMAGE@", imagePullPolicy: Never, args: [pause]}
    - {name: istio-proxy, image: "@IMAGE@", imagePullPolicy: Never, args: [pause]}
"#;
