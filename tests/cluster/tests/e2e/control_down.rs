//! Without control, what the agents know goes on: connections, policies, and pods that come back on their node. An agent that
//! is started anew meanwhile serves by what it kept, certificates included.

use crate::{
    shop,
    stage::{self, LONG, SYSTEM, Stage, timed},
};
use anyhow::{Context, Result, ensure};
use std::time::{Duration, Instant};

const NAMESPACE: &str = "headless";

/// How long control is away.
const AWAY: Duration = Duration::from_secs(120);

/// How long is looked at before an agent is restarted.
const BEFORE: Duration = Duration::from_secs(50);

pub fn run(stage: &Stage) -> Result<String> {
    stage.namespace(NAMESPACE, true)?;
    shop::open(stage, NAMESPACE)?;
    let far = format!("{}:7000", stage.service_address(NAMESPACE, "far")?);
    let scale = |replicas: u8| {
        let replicas = format!("--replicas={replicas}");
        stage.cluster.kubectl(&["scale", "deployment/weft-control", "--namespace", SYSTEM, &replicas])
    };
    scale(0)?;
    let begun = Instant::now();
    let gone = timed(LONG, || {
        let there = controls(stage)?;
        ensure!(there.is_empty(), "control is not away: {there}");
        Ok(())
    });
    let served = gone.and_then(|_| without_control(stage, &far, begun));
    let still = controls(stage)?;
    scale(2)?;
    stage.rolled_out(SYSTEM)?;
    let (connections, restarted) = served?;
    ensure!(still.is_empty(), "control was not away: {still}");
    // What is new is known again.
    shop::apply(stage, NAMESPACE, &shop::server("late", "node-2"))?;
    stage.rolled_out(NAMESPACE)?;
    let late = format!("{}:8080", stage.service_address(NAMESPACE, "late")?);
    let known = timed(LONG, || {
        let answer = stage.app(NAMESPACE, "deployment/web", &["get", &late, "--patience", "3"])?;
        ensure!(answer["ok"] == true, "{answer}");
        Ok(())
    })?;
    Ok(format!(
        "control away for {} s: of {connections} connections none failed; an agent that was stopped and started meanwhile \
         was ready after {:.1} s, by what it had kept; a new server was reached {:.1} s after it was ready",
        AWAY.as_secs(),
        restarted.as_secs_f64(),
        known.as_secs_f64()
    ))
}

/// How many connections were made, and how long the second node had no agent that is ready.
fn without_control(stage: &Stage, far: &str, begun: Instant) -> Result<(u64, Duration)> {
    let load = |seconds: u64| {
        let seconds = seconds.to_string();
        let args = ["connections", far, "--rate", "20", "--in-flight", "2", "--seconds", &seconds];
        let result = stage.load(NAMESPACE, "deployment/web", &args)?.result()?;
        ensure!(stage::failures(&result) == 0, "{result}");
        result["connections"].as_u64().context("a load counts its connections")
    };
    let before = load(BEFORE.as_secs())?;
    let agent = stage.agent("node-2")?;
    let restarted = Instant::now();
    stage.cluster.kubectl(&["delete", "pod", &agent, "--namespace", SYSTEM, "--wait=true"])?;
    timed(LONG, || {
        let new = stage.agent("node-2")?;
        ensure!(new != agent, "the agent of node-2 was not replaced");
        let wait = ["wait", "--for=condition=Ready", "--timeout=5s", "--namespace", SYSTEM];
        stage.cluster.kubectl(&[&wait[..], &[&format!("pod/{new}")]].concat()).map(drop)
    })?;
    let restarted = restarted.elapsed();
    let left = AWAY.saturating_sub(begun.elapsed()).max(Duration::from_secs(10));
    Ok((before + load(left.as_secs())?, restarted))
}

/// The pods of control that are there.
fn controls(stage: &Stage) -> Result<String> {
    let get = ["get", "pods", "--namespace", SYSTEM, "--output=name"];
    let said =
        stage.cluster.kubectl(&[&get[..], &["--selector=app.kubernetes.io/name=weft-control"]].concat())?;
    Ok(said.trim().to_owned())
}
