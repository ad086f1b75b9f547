//! Without the API server, connections are made as before, and control and agents come back to it by themselves.

use crate::{
    shop,
    stage::{self, LONG, Stage, timed},
};
use anyhow::{Result, ensure};
use std::time::{Duration, Instant};

const NAMESPACE: &str = "apiless";

/// How long the API server is away.
const AWAY: Duration = Duration::from_secs(120);

/// How long Kubernetes may take until it has made a pod again: its components try again ever more seldom, at last once in
/// thirty to sixty seconds, and each of them must have come back.
const RECOVERY: Duration = Duration::from_secs(300);

pub fn run(stage: &Stage) -> Result<String> {
    stage.namespace(NAMESPACE, true)?;
    shop::open(stage, NAMESPACE)?;
    let far = format!("{}:7000", stage.service_address(NAMESPACE, "far")?);
    let web = running(stage, "web")?;
    let node = stage.cluster.node("node-1")?;
    let plane = stage.cluster.control_plane();
    plane.stop_api()?;
    // They lose the lease by which they lead, and end.
    plane.stop_controllers()?;
    // kubectl cannot be asked now: the client is started by the node's own runtime.
    let seconds = AWAY.as_secs().to_string();
    let args = ["--namespace", "k8s.io", "tasks", "exec", "--exec-id", "api-down", &web];
    let load = ["weft-app", "connections", &far, "--rate", "20", "--in-flight", "2", "--seconds", &seconds];
    let said = node.run("ctr", &[&args[..], &load].concat());
    plane.start_api()?;
    plane.start_controllers()?;
    let result: serde_json::Value = serde_json::from_str(said?.lines().last().unwrap_or_default())?;
    ensure!(stage::failures(&result) == 0, "{result}");
    stage.cluster.wait_for_nodes()?;
    let begun = Instant::now();
    shop::apply(stage, NAMESPACE, &shop::server("late", "node-2"))?;
    timed(RECOVERY, || {
        let selector = ["--namespace", NAMESPACE, "--selector", "kubernetes.io/service-name=late"];
        let slices = stage.cluster.json(&[&["get", "endpointslices"], &selector[..]].concat())?;
        let ready = &slices["items"][0]["endpoints"][0]["conditions"]["ready"];
        ensure!(*ready == true, "Kubernetes has not made the new server ready: {slices}");
        Ok(())
    })?;
    let kubernetes = begun.elapsed();
    let late = format!("{}:8080", stage.service_address(NAMESPACE, "late")?);
    let back = timed(LONG, || {
        let answer = stage.app(NAMESPACE, "deployment/web", &["get", &late, "--patience", "3"])?;
        ensure!(answer["ok"] == true, "{answer}");
        Ok(())
    })?;
    Ok(format!(
        "the API server away for {} s: of {} connections none failed; Kubernetes had a new server ready {:.1} s after it was \
         back, and the mesh reached it {:.1} s later",
        AWAY.as_secs(),
        result["connections"],
        kubernetes.as_secs_f64(),
        back.as_secs_f64()
    ))
}

/// The id of the container of the pod behind `app=<name>`.
fn running(stage: &Stage, name: &str) -> Result<String> {
    let selector = format!("app={name}");
    let path = "jsonpath={.items[0].status.containerStatuses[0].containerID}";
    let get = ["get", "pods", "--namespace", NAMESPACE, "--selector", &selector, "--output", path];
    Ok(stage.cluster.kubectl(&get)?.trim_start_matches("containerd://").to_owned())
}
