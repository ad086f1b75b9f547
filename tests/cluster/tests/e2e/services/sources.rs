//! Clients outside of the cluster, and on a node itself, by NodePort and LoadBalancer.

use super::cases::Cases;
use crate::stage::{LONG, Stage, timed};
use anyhow::{Result, ensure};
use serde_json::Value;
use std::{process::Command, time::Duration};
use weft_tests::{binaries, process};

/// Servers of `externalTrafficPolicy: Local` see who calls; a node reaches what it has a port for.
pub fn kept(stage: &Stage, cases: &Cases) -> Result<String> {
    let machine = stage.cluster.plan().host().v4;
    let [_, second] = &cases.nodes;
    let ways = [cases.balanced("external"), format!("{second}:{}", cases.node_port("external"))];
    for to in &ways {
        timed(LONG, || {
            let answer = from_machine(to)?;
            let peer = answer["body"]["peer"].as_str().unwrap_or_default();
            ensure!(peer.starts_with(&format!("{machine}:")), "{to} sees {peer}, not {machine}: {answer}");
            Ok(())
        })?;
    }
    let node = stage.cluster.node("node-1")?;
    let program = binaries::find("weft-app")?.display().to_string();
    let to = format!("{}:{}", cases.nodes[0], cases.node_port("balanced"));
    for _ in 0..10 {
        let said = node.run(&program, &["get", &to])?;
        ensure!(said.contains("\"ok\":true"), "the node does not reach its own port {to}: {said}");
    }
    Ok(format!("externalTrafficPolicy: Local kept {machine} as the source"))
}

/// Under STRICT, who comes from outside of the cluster has no identity either.
pub fn refused(stage: &Stage, cases: &Cases) -> Result<()> {
    let [_, second] = &cases.nodes;
    for to in [cases.balanced("external"), format!("{second}:{}", cases.node_port("external"))] {
        let answer = from_machine(&to)?;
        ensure!(answer["ok"] != true, "STRICT let {to} in from outside: {answer}");
    }
    // The server's agent says so.
    let logs = ["--namespace", crate::stage::SYSTEM, "--selector=app.kubernetes.io/name=weft-agent"];
    let logs = stage.cluster.kubectl(&[&["logs", "--since=120s", "--tail=-1"], &logs[..]].concat())?;
    ensure!(logs.contains("plaintext_refused"), "no agent says why it refused:\n{logs}");
    Ok(())
}

/// A call from the machine, which is outside of the cluster.
fn from_machine(to: &str) -> Result<Value> {
    let mut command = Command::new(binaries::find("weft-app")?);
    command.args(["get", to, "--patience", "3"]);
    let output = process::output(command, Duration::from_secs(20))?;
    Ok(serde_json::from_slice(&output.stdout)?)
}
