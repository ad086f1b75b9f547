//! An update to an image that does not start stops at its first node: the agents before it go on, and so do connections; it is
//! said where and why; going back mends it.

use crate::{
    images::APP,
    see, shop,
    stage::{self, LONG, Stage, timed},
};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::{thread, time::Duration};

const NAMESPACE: &str = "misled";

/// How long a stopped update is watched.
const WATCHED: Duration = Duration::from_secs(10);

pub fn run(stage: &Stage) -> Result<String> {
    stage.namespace(NAMESPACE, true)?;
    shop::open(stage, NAMESPACE)?;
    let at = |server: &str| anyhow::Ok(format!("{}:7000", stage.service_address(NAMESPACE, server)?));
    let (near, far) = (at("near")?, at("far")?);
    let before = agents(stage)?;
    let start =
        |args: &[&str]| stage.load(NAMESPACE, "deployment/web", &[args, &["--seconds", "60"]].concat());
    let new_far = start(&["connections", &far, "--rate", "20", "--in-flight", "2"])?;
    let long_near = start(&["hold", &near, "--connections", "10", "--every-ms", "200"])?;
    let long_far = start(&["hold", &far, "--connections", "10", "--every-ms", "200"])?;

    let (repository, tag) = APP.split_once(':').context("the image has a tag")?;
    let ends = [&format!("agent.image.repository={repository}"), &format!("agent.image.tag={tag}")];
    let cases: [(&str, &[&str]); 2] =
        [("ErrImagePull", &["agent.image.tag=none"]), ("exit code 2", &[ends[0], ends[1]])];
    let mut told = Vec::new();
    for (why, settings) in cases {
        let result = stops(stage, settings, why, &before);
        stage.helm(&["rollback", "weft", "--wait", "--timeout", "180s"])?;
        told.push(result?);
        timed(LONG, || {
            let found = see::check(stage)?;
            ensure!(found.iter().all(|row| row["state"] == "ok"), "after the rollback: {found:?}");
            Ok(())
        })?;
        ensure!(agents(stage)? == before, "an agent that was well was replaced");
    }
    let [new_far, long_near, long_far] = [new_far.result()?, long_near.result()?, long_far.result()?];
    for (what, result) in [("new", &new_far), ("direct", &long_near), ("proxied", &long_far)] {
        ensure!(stage::failures(result) == 0, "{what} connections were lost: {result}");
    }
    Ok(format!(
        "an image that is not there and one that ends at once each stopped the update at its first node, said as: {}; of {} new \
         connections and 20 long ones none was lost, and no agent was replaced",
        told.join(" | "),
        new_far["connections"]
    ))
}

/// Upgrades, and sees that it stops; what is said of it.
fn stops(stage: &Stage, settings: &[&str], why: &str, before: &[String]) -> Result<String> {
    let chart = stage.workspace().join("deploy/helm/weft").display().to_string();
    let mut args = vec!["upgrade", "weft", &chart, "--reuse-values"];
    args.extend(settings.iter().flat_map(|setting| ["--set-string", setting]));
    stage.helm(&args)?;
    let said = || {
        let rows = see::check(stage)?;
        let row = rows.iter().find(|row| row["what"] == "agents that do not start");
        let row = row.with_context(|| format!("nothing is said of the agent: {rows:?}"))?;
        let found = row["found"].as_str().unwrap_or_default().to_owned();
        ensure!(row["state"] == "bad" && found.starts_with("node-"), "{row}");
        ensure!(
            found.contains(why) || found.contains("ImagePullBackOff") && why == "ErrImagePull",
            "{found}"
        );
        Ok(found)
    };
    timed(LONG, || said().map(drop))?;
    thread::sleep(WATCHED);
    let found = said()?;
    ensure!(found.matches("node-").count() == 1, "the update did not stop at its first node: {found}");
    let there = agents(stage)?;
    ensure!(before.iter().all(|agent| there.contains(agent)), "of the agents {before:?}, {there:?} are left");
    Ok(found.chars().take(90).collect())
}

/// The agents that are ready.
fn agents(stage: &Stage) -> Result<Vec<String>> {
    let selector = ["--namespace", stage::SYSTEM, "--selector=app.kubernetes.io/name=weft-agent"];
    let pods = stage.cluster.json(&[&["get", "pods"], &selector[..]].concat())?;
    let ready = |pod: &&Value| pod["status"]["containerStatuses"][0]["ready"] == true;
    let pods = pods["items"].as_array().into_iter().flatten().filter(ready);
    Ok(pods.filter_map(|pod| Some(pod["metadata"]["name"].as_str()?.to_owned())).collect())
}
