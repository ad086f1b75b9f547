//! The chart makes a mesh: agents on every node, control twice, no node that must not be used.

use crate::{
    images,
    networks::Networks,
    stage::{LONG, Stage, timed},
};
use anyhow::{Result, ensure};
use std::time::Instant;

/// What the networks were like before; `uninstall` compares.
pub const BEFORE: &str = "networks-before.json";

/// The label of a node that has no agent, for as long as it has it.
pub const KEPT_AWAY: &str = "weft-e2e/kept-away";

pub fn run(stage: &Stage) -> Result<String> {
    images::provide(&stage.cluster)?;
    let before = stage.scratch(BEFORE);
    if !before.exists() {
        std::fs::write(&before, serde_json::to_vec(&stage.networks()?)?)?;
    }
    let begun = Instant::now();
    let chart = stage.workspace().join("deploy/helm/weft").display().to_string();
    // All nodes are on one kernel here: each one's programs belong where its own pods are, and no higher.
    let below = |path: &str| {
        let cgroup = stage.cluster.plan().cgroup();
        let v2 = weft_tests::cgroup::root()?;
        let v2 = v2.strip_prefix("/sys/fs/cgroup").unwrap_or(&v2).display().to_string();
        let v2 = if v2.is_empty() { v2 } else { format!("/{v2}") };
        anyhow::Ok(format!("/host/sys/fs/cgroup{v2}/{cgroup}/$(NODE_NAME){path}"))
    };
    let cgroup = format!("agent.cgroup={}", below("")?);
    let pods = format!("agent.podsCgroup={}", below("/kubepods")?);
    let away = serde_json::json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
        "nodeSelectorTerms": [{"matchExpressions": [{"key": KEPT_AWAY, "operator": "DoesNotExist"}]}]}}});
    let away = format!("agent.affinity={away}");
    let images = std::env::var("WEFT_IMAGES").unwrap_or_default();
    let images = ["agent", "control"].map(|who| format!("{who}.podAnnotations.weft-e2e/images={images}"));
    let mut args = vec!["upgrade", "--install", "weft", &chart, "--create-namespace", "--wait"];
    args.extend(["--timeout", "180s", "--set-string", &cgroup, "--set-string", &pods, "--set-json", &away]);
    args.extend(["--set-string", &images[0], "--set-string", &images[1]]);
    stage.helm(&args)?;
    let installed = begun.elapsed();
    let usable = timed(LONG, || {
        let taints = stage.cluster.kubectl(&[
            "get",
            "nodes",
            "--output",
            "jsonpath={.items[*].spec.taints[*].key}",
        ])?;
        ensure!(!taints.contains("weft.dev/"), "nodes have the taints {taints}");
        Ok(())
    })?;
    Ok(format!(
        "installed and ready after {:.1} s, nodes usable {:.1} s later",
        installed.as_secs_f64(),
        usable.as_secs_f64()
    ))
}

/// What was there before the installation.
pub fn before(stage: &Stage) -> Result<Networks> {
    Ok(serde_json::from_slice(&std::fs::read(stage.scratch(BEFORE))?)?)
}
