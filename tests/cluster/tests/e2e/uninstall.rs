//! Uninstalling leaves the nodes' networks as they were, and applications that go on without a mesh.

use crate::{
    install, shop,
    stage::{self, LONG, SYSTEM, Stage, timed},
};
use anyhow::{Result, ensure};
use std::time::Instant;

pub fn run(stage: &Stage) -> Result<String> {
    stage.namespace("left", true)?;
    shop::open(stage, "left")?;
    let far = format!("{}:8080", stage.service_address("left", "far")?);
    let load = format!("{}:7000", stage.service_address("left", "far")?);
    ensure!(stage.app("left", "deployment/web", &["get", &far])?["ok"] == true, "no answer before");
    let args = ["connections", &load, "--seconds", "25", "--rate", "20", "--in-flight", "2"];
    let load = stage.load("left", "deployment/web", &args)?;
    let begun = Instant::now();
    stage.helm(&["uninstall", "weft", "--wait", "--timeout", "180s"])?;
    let took = begun.elapsed();
    let gone = timed(LONG, || {
        let pods = stage.cluster.kubectl(&["get", "pods", "--namespace", SYSTEM, "--output", "name"])?;
        ensure!(pods.trim().is_empty(), "there are still {pods}");
        Ok(())
    })?;
    let answer = stage.app("left", "deployment/web", &["get", &far])?;
    ensure!(answer["ok"] == true, "pods do not reach each other without the mesh: {answer}");
    let load = load.result()?;
    let before = install::before(stage)?;
    let settled = timed(LONG, || {
        let differences = stage.networks()?.differences(&before);
        ensure!(differences.is_empty(), "the networks differ from before:\n{}", differences.join("\n"));
        Ok(())
    })?;
    // Their status names images, which stay.
    let marks = "jsonpath={range .items[*]}{.metadata.labels}{.metadata.annotations}{.spec.taints}{end}";
    let nodes = stage.cluster.kubectl(&["get", "nodes", "--output", marks])?;
    ensure!(!nodes.contains("weft.dev/"), "nodes still carry something of the mesh: {nodes}");
    Ok(format!(
        "gone after {:.1} s, networks as before {:.1} s later; of the connections made meanwhile, {} went well and {} failed",
        (took + gone).as_secs_f64(),
        settled.as_secs_f64(),
        load["connections"],
        stage::failures(&load),
    ))
}
