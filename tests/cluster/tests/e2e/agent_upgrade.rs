//! A rolling update of the agents under load: no new connection is refused, those that the kernel joins directly go
//! on, and long ones through the agent have their time to end, which is counted.

use crate::{
    see, shop,
    stage::{self, LONG, SYSTEM, Stage, timed},
};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::{
    thread,
    time::{Duration, Instant},
};

const NAMESPACE: &str = "upgraded";

/// How long the loads go on: longer than the update takes.
const SECONDS: &str = "75";

pub fn run(stage: &Stage) -> Result<String> {
    stage.namespace(NAMESPACE, true)?;
    shop::open(stage, NAMESPACE)?;
    let at = |server: &str| anyhow::Ok(format!("{}:7000", stage.service_address(NAMESPACE, server)?));
    let (near, far) = (at("near")?, at("far")?);
    let start =
        |args: &[&str]| stage.load(NAMESPACE, "deployment/web", &[args, &["--seconds", SECONDS]].concat());
    let new_near = start(&["connections", &near, "--rate", "20", "--in-flight", "2"])?;
    let new_far = start(&["connections", &far, "--rate", "20", "--in-flight", "2"])?;
    let long_near = start(&["hold", &near, "--connections", "20", "--every-ms", "200"])?;
    let long_far = start(&["hold", &far, "--connections", "20", "--every-ms", "200"])?;
    thread::sleep(Duration::from_secs(3));

    let cut_before = cut(stage)?;
    let begun = Instant::now();
    let update = ["rollout", "restart", "daemonset/weft-agent", "--namespace", SYSTEM];
    stage.cluster.kubectl(&update)?;
    let limit = format!("--timeout={}s", LONG.as_secs());
    stage.cluster.kubectl(&["rollout", "status", "daemonset/weft-agent", "--namespace", SYSTEM, &limit])?;
    let took = begun.elapsed();

    let results = [new_near.result()?, new_far.result()?, long_near.result()?, long_far.result()?];
    let lost = results.each_ref().map(stage::failures);
    ensure!(lost[0] == 0, "new connections on a node were refused: {}", results[0]);
    ensure!(lost[1] == 0, "new connections between nodes were refused: {}", results[1]);
    ensure!(lost[2] == 0, "direct connections were reset: {}", results[2]);
    // What was lost is what agents cut whose time was over, and those that came after them tell of it.
    timed(LONG, || {
        let told = cut(stage)?.saturating_sub(cut_before);
        ensure!(
            told == lost[3],
            "{} proxied connections were lost, {told} were cut as the agents tell",
            lost[3]
        );
        Ok(())
    })?;
    Ok(format!(
        "all agents are new after {:.1} s; of {} new connections none failed; of 20 direct long ones none was lost, of 20 \
         proxied long ones {}, and as many were cut after their drain, as the agents tell",
        took.as_secs_f64(),
        results[0]["connections"].as_u64().unwrap_or_default()
            + results[1]["connections"].as_u64().unwrap_or_default(),
        lost[3],
    ))
}

/// How many connections were cut at the ends of drains, as the agents of all nodes tell.
fn cut(stage: &Stage) -> Result<u64> {
    let status = see::ask(stage, &["status"])?;
    let nodes = status["nodes"].as_object().context("no nodes in the answer")?;
    let cut = |drains: &Value| Some(drains["cut_outbound"].as_u64()? + drains["cut_inbound"].as_u64()?);
    let each = nodes.values().map(|node| cut(&node["drains"]).with_context(|| format!("no drains: {node}")));
    each.sum()
}
