//! Without the API server, connections are made as before, and control and agents come back to it by themselves.

use crate::{
    shop,
    stage::{self, LONG, Stage, timed},
};
use anyhow::{Result, ensure};
use std::{thread, time::Duration};

const NAMESPACE: &str = "apiless";

/// How long the API server is away.
const AWAY: Duration = Duration::from_secs(60);

pub fn run(stage: &Stage) -> Result<String> {
    stage.namespace(NAMESPACE, true)?;
    shop::open(stage, NAMESPACE)?;
    let far = format!("{}:7000", stage.service_address(NAMESPACE, "far")?);
    let web = running(stage, "web")?;
    let node = stage.cluster.node("node-1")?;
    let plane = stage.cluster.control_plane();
    plane.stop_api()?;
    // kubectl cannot be asked now: the client is started by the node's own runtime.
    let seconds = AWAY.as_secs().to_string();
    let args = ["--namespace", "k8s.io", "tasks", "exec", "--exec-id", "api-down", &web];
    let load = ["weft-app", "connections", &far, "--rate", "20", "--in-flight", "2", "--seconds", &seconds];
    let said = node.run("ctr", &[&args[..], &load].concat());
    plane.start_api()?;
    let result: serde_json::Value = serde_json::from_str(said?.lines().last().unwrap_or_default())?;
    ensure!(stage::failures(&result) == 0, "{result}");
    thread::sleep(Duration::from_secs(1));
    stage.cluster.wait_for_nodes()?;
    let back = timed(LONG, || {
        shop::apply(stage, NAMESPACE, &shop::server("late", "node-2"))?;
        stage.rolled_out(NAMESPACE)?;
        let late = format!("{}:7000", stage.service_address(NAMESPACE, "late")?);
        let answer = stage.app(
            NAMESPACE,
            "deployment/web",
            &["connections", &late, "--seconds", "1", "--rate", "5"],
        )?;
        ensure!(answer["ok"] == true, "{answer}");
        Ok(())
    })?;
    Ok(format!(
        "the API server away for {} s: of {} connections none failed; a new server was reached {:.1} s after it was back",
        AWAY.as_secs(),
        result["connections"],
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
