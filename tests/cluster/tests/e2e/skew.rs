//! Agents and control of another revision beside the present ones, whichever of the two is newer: under load nothing fails,
//! and what changes meanwhile arrives.

use crate::{
    shop,
    stage::{self, LONG, SYSTEM, Stage},
};
use anyhow::{Context, Result, ensure};
use std::{thread, time::Duration};

const NAMESPACE: &str = "skewed";
/// How long each load goes on: longer than a part takes to be replaced.
const SECONDS: &str = "60";
/// The tag that `cargo xtask e2e` gives the images of the other revision.
const OTHER: &str = "skew";
/// Each step replaces one part, to this tag; no tag is the present one's. So agents are older than control, then both are of
/// the other revision, then agents are newer, then all are as they were.
const STEPS: [(&str, &str); 4] = [("agent", OTHER), ("control", OTHER), ("agent", ""), ("control", "")];

/// The other revision, where there is one.
pub fn revision() -> Option<String> {
    std::env::var("WEFT_SKEW").ok()
}

pub fn run(stage: &Stage) -> Result<String> {
    let revision = revision().context(
        "there is no release of the minor version before; name a revision: cargo xtask e2e --skew REVISION skew",
    )?;
    stage.namespace(NAMESPACE, true)?;
    shop::open(stage, NAMESPACE)?;
    let steps = steps(stage);
    // Whatever became of it, the scenarios that follow are about the present revision.
    let restored =
        [("agent", ""), ("control", "")].into_iter().try_for_each(|(part, tag)| replace(stage, part, tag));
    let connections = steps?;
    restored?;
    Ok(format!(
        "{revision} beside the present one, agents older, control older, and back: of {connections} new connections none failed"
    ))
}

fn steps(stage: &Stage) -> Result<u64> {
    let at = |server: &str| anyhow::Ok(format!("{}:7000", stage.service_address(NAMESPACE, server)?));
    let (near, far) = (at("near")?, at("far")?);
    let mut connections = 0;
    for (part, tag) in STEPS {
        let what = if tag.is_empty() { "the present revision" } else { "the other revision" };
        let load = |to: &str| {
            let args = ["connections", to, "--rate", "20", "--in-flight", "2", "--seconds", SECONDS];
            stage.load(NAMESPACE, "deployment/web", &args)
        };
        let loads = [load(&near)?, load(&far)?];
        thread::sleep(Duration::from_secs(2));
        replace(stage, part, tag).with_context(|| format!("{part} to {what}"))?;
        follow(stage, &far).with_context(|| format!("with the {part} of {what}"))?;
        for load in loads {
            let result = load.result()?;
            ensure!(stage::failures(&result) == 0, "while the {part} came to {what}: {result}");
            connections += result["connections"].as_u64().unwrap_or_default();
        }
        println!("the {part} is of {what}");
    }
    Ok(connections)
}

/// Replaces a part of the mesh by that of another image, and waits for it.
fn replace(stage: &Stage, part: &str, tag: &str) -> Result<()> {
    let chart = stage.workspace().join("deploy/helm/weft").display().to_string();
    let set = format!("{part}.image.tag={tag}");
    stage.helm(&[
        "upgrade",
        "weft",
        &chart,
        "--reuse-values",
        "--set-string",
        &set,
        "--wait",
        "--timeout",
        "180s",
    ])?;
    let what = if part == "agent" { "daemonset/weft-agent" } else { "deployment/weft-control" };
    let limit = format!("--timeout={}s", LONG.as_secs());
    stage.cluster.kubectl(&["rollout", "status", what, "--namespace", SYSTEM, &limit])?;
    Ok(())
}

/// What changes arrives: a policy that refuses, and that goes; a pod that is new gets its certificate.
fn follow(stage: &Stage, far: &str) -> Result<()> {
    // The load goes to another port than the policy is about.
    let web = far.replace(":7000", ":8080");
    let get =
        |who: &str| stage.app(NAMESPACE, &format!("deployment/{who}"), &["get", &web, "--patience", "3"]);
    let is_let_through = |wanted: bool| {
        stage::timed(LONG, || {
            let answer = get("web")?;
            ensure!((answer["ok"] == true) == wanted, "{answer}");
            Ok(())
        })
    };
    is_let_through(true).context("before the policy")?;
    shop::apply(stage, NAMESPACE, DENY)?;
    is_let_through(false).context("the policy is not in force")?;
    stage.cluster.kubectl(&["delete", "authorizationpolicy", "skew", "--namespace", NAMESPACE])?;
    is_let_through(true).context("the policy is gone and still in force")?;
    shop::apply(stage, NAMESPACE, &shop::client("late", "node-2"))?;
    stage.rolled_out(NAMESPACE)?;
    stage::timed(LONG, || {
        let answer = get("late")?;
        ensure!(answer["ok"] == true, "{answer}");
        Ok(())
    })
    .context("a new pod")?;
    stage
        .cluster
        .kubectl(&["delete", "deployment", "late", "--namespace", NAMESPACE, "--wait=true"])
        .map(drop)
}

/// Nobody may speak HTTP to the far server.
const DENY: &str = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: skew}
spec:
  selector: {matchLabels: {app: far}}
  action: DENY
  rules: [{to: [{operation: {ports: [\"8080\"]}}]}]
";
