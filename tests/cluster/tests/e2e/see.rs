//! What people see of a cluster: `helm test`, and the agent's command line through a kubeconfig.

use crate::{
    shop,
    stage::{LONG, Stage, timed},
};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::{process::Command, time::Duration};
use weft_tests::{binaries, process};

const NAMESPACE: &str = "seen";

pub fn run(stage: &Stage) -> Result<String> {
    stage.helm(&["test", "weft", "--timeout", "120s"])?;
    let nodes = stage.cluster.nodes().len();
    let status = ask(stage, &["status"])?;
    let ready = |node: &&Value| node["ready"] == true && node["control"]["connected"] == true;
    let said = status["nodes"].as_object().context("no nodes in the answer")?;
    ensure!(
        said.len() == nodes && said.values().filter(ready).count() == nodes,
        "not all are ready: {status}"
    );

    stage.namespace(NAMESPACE, true)?;
    shop::open(stage, NAMESPACE)?;
    let pods = ["get", "pods", "--namespace", NAMESPACE, "--selector", "app=web"];
    let path = "jsonpath={.items[0].metadata.name}";
    let web = stage.cluster.kubectl(&[&pods[..], &["--output", path]].concat())?;
    let from = format!("{NAMESPACE}/{}", web.trim());
    let explained = || {
        let answer = ask(stage, &["explain", "--from", &from, "--to", "far:8080"])?;
        // The agent of the client's node alone knows all of it.
        let answer = answer["nodes"]["node-1"].clone();
        ensure!(answer["path"] == "tunnel" && answer["verdict"] == "allowed", "{answer}");
        Ok(answer)
    };
    timed(LONG, || explained().map(drop))?;
    ensure!(explained()?["network_policies"] == Value::Array(Vec::new()), "{}", explained()?);
    shop::apply(stage, NAMESPACE, HTTP_ALONE)?;
    let verdict = explained()?["network_policies"][0].clone();
    let blocks = verdict["allowed"] == false && verdict["port"] == 15008;
    ensure!(blocks && verdict["policies"][0] == format!("{NAMESPACE}/http-alone"), "{verdict}");
    Ok(format!("helm test and {nodes} agents say that all is well"))
}

/// What `weft-agent --kube <args> --output json` prints.
pub fn ask(stage: &Stage, args: &[&str]) -> Result<Value> {
    let output = process::output(agent(stage, args)?, Duration::from_secs(60))?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "weft-agent --kube {}: {}", args.join(" "), error.trim());
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// The rows of `weft-agent --kube check`, which fails where one of them is bad.
pub fn check(stage: &Stage) -> Result<Vec<Value>> {
    let output = process::output(agent(stage, &["check"])?, Duration::from_secs(60))?;
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    let rows: Vec<Value> = serde_json::from_slice(&output.stdout).context(error)?;
    ensure!(
        output.status.success() == rows.iter().all(|row| row["state"] != "bad"),
        "the exit code is not what the rows say: {}, {rows:?}",
        output.status
    );
    Ok(rows)
}

fn agent(stage: &Stage, args: &[&str]) -> Result<Command> {
    let mut command = Command::new(binaries::find("weft-agent")?);
    command.args(["--kube", "--output", "json", "--kubeconfig"]).arg(stage.cluster.kubeconfig()).args(args);
    Ok(command)
}

/// It allows the application's port, and forgets that of tunnels.
const HTTP_ALONE: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: http-alone}
spec:
  podSelector: {matchLabels: {app: far}}
  ingress:
    - ports: [{port: 8080}]
";
