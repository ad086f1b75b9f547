//! Without control, what the agents know goes on: connections, policies, and pods that come back on their node.

use crate::{
    shop,
    stage::{self, SYSTEM, Stage},
};
use anyhow::{Result, ensure};
use std::{thread, time::Duration};

const NAMESPACE: &str = "headless";

/// How long control is away.
const AWAY: Duration = Duration::from_secs(60);

pub fn run(stage: &Stage) -> Result<String> {
    stage.namespace(NAMESPACE, true)?;
    shop::open(stage, NAMESPACE)?;
    let far = format!("{}:7000", stage.service_address(NAMESPACE, "far")?);
    let seconds = (AWAY.as_secs() + 10).to_string();
    let args = ["connections", &far, "--rate", "20", "--in-flight", "2", "--seconds", &seconds];
    let load = stage.load(NAMESPACE, "deployment/web", &args)?;
    let scale = |replicas: u8| {
        let replicas = format!("--replicas={replicas}");
        stage.cluster.kubectl(&["scale", "deployment/weft-control", "--namespace", SYSTEM, &replicas])
    };
    scale(0)?;
    thread::sleep(AWAY);
    let ready = stage.cluster.kubectl(&[
        "get",
        "pods",
        "--namespace",
        SYSTEM,
        "--selector=app.kubernetes.io/name=weft-control",
        "--output=name",
    ])?;
    scale(2)?;
    ensure!(ready.trim().is_empty(), "control was not away: {ready}");
    stage.rolled_out(SYSTEM)?;
    let result = load.result()?;
    ensure!(stage::failures(&result) == 0, "{result}");
    // What is new is known again.
    shop::apply(stage, NAMESPACE, &shop::server("late", "node-2"))?;
    stage.rolled_out(NAMESPACE)?;
    let late = format!("{}:7000", stage.service_address(NAMESPACE, "late")?);
    let answer =
        stage.app(NAMESPACE, "deployment/web", &["connections", &late, "--seconds", "1", "--rate", "5"])?;
    ensure!(answer["ok"] == true, "{answer}");
    Ok(format!("control away for {} s: of {} connections none failed", AWAY.as_secs(), result["connections"]))
}
