//! A node after Weft: nothing of it is left.

use crate::stage::{SOON, TUNNEL, well};
use anyhow::{Context, Result, ensure};
use std::{path::Path, process::Command};
use weft_tests::{Mesh, require_kernel, sweep};

/// The rules of a pod's namespace that lead to our table.
fn rules(mesh: &Mesh, pod: &str) -> Result<String> {
    let mut rules = String::new();
    for family in ["-4", "-6"] {
        let list = ["-n", mesh.pod(pod)?.netns.name(), family, "rule", "list", "priority", "15006"];
        rules += &String::from_utf8(Command::new("ip").args(list).output()?.stdout)?;
    }
    Ok(rules)
}

#[test]
fn nothing_is_left_on_nodes_that_are_uninstalled() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let mut mesh = Mesh::bookshop("uninstall")?;
    let pins = Path::new(sweep::BPFFS).join(mesh.cluster.run.name());
    let served = TUNNEL.to;
    for to in TUNNEL.targets(&mesh, 8080)? {
        well("before", &TUNNEL.call(&mesh, &["get", &to.to_string()])?)?;
    }
    ensure!(!rules(&mesh, served)?.is_empty(), "a pod that was delivered to has a rule");
    ensure!(pins.join("node-b/links").exists(), "no pins in {}", pins.display());
    let refused = mesh.agents["node-a"].run(&["uninstall", "--node", "node-a"]);
    let refused = refused.err().context("uninstalled without being told that it is meant")?.to_string();
    ensure!(refused.contains("--yes"), "{refused}");
    for node in ["node-a", "node-b"] {
        let said = mesh.agents[node].uninstall()?;
        ensure!(said.contains(&format!("the node {node} is as it was")), "{said}");
        let status = mesh.agent(node)?.process().wait(SOON)?;
        ensure!(status.success(), "{node}: {status}");
        ensure!(!pins.join(node).exists(), "{node}: pins are left");
    }
    ensure!(rules(&mesh, served)?.is_empty(), "a rule is left: {}", rules(&mesh, served)?);
    // Nobody is in the mesh, and everybody talks.
    for to in TUNNEL.targets(&mesh, 8080)? {
        well("afterwards", &TUNNEL.call(&mesh, &["get", &to.to_string()])?)?;
    }
    // Where nothing is, nothing is to be done.
    mesh.agents["node-a"].uninstall()?;
    Ok(())
}
