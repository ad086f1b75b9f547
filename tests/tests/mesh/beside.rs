//! Another mesh on the node: what it left in a pod is told, and connections go on.

use crate::stage::{DIRECT, SOON, TUNNEL, well};
use anyhow::{Context, Result, ensure};
use std::{path::Path, process::Command};
use weft_tests::{Cluster, Manifests, Mesh, Run, app, eventually, require_kernel};

#[test]
fn a_sidecars_rules_and_a_listener_at_the_tunnels_port_are_told() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let manifests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/bookshop");
    let cluster = Cluster::build(Run::unique("beside")?, Manifests::read(&manifests)?)?;
    cluster.run.show_logs();
    let applications = cluster.start_applications()?;
    // As Istio's init container names its chains; they need lead nowhere to be seen.
    let made = cluster.pod("bookshop/web")?.netns.run(|| {
        let rules = "add table ip nat; add chain ip nat ISTIO_OUTPUT";
        Ok(Command::new("nft").arg(rules).status().context("cannot run nft")?.success())
    })?;
    ensure!(made, "nft does not make a chain");
    let _squatter = app::serve(cluster.pod("bookshop/reviews")?, "echo", 15008)?;
    let mut mesh = Mesh::join(cluster, applications)?;
    for (node, pod, told) in [
        ("node-a", "bookshop/web", "iptables rules of Istio's"),
        ("node-b", "bookshop/reviews", "port 15008"),
    ] {
        mesh.agent(node)?.process().wait_for_line(SOON, |line| {
            line.contains("WARN") && line.contains(told) && line.contains(&format!("pod={pod}"))
        })?;
        eventually(SOON, || {
            let status = mesh.agents[node].ask(&["status"])?;
            let pods = status["pods"].as_array().context("no pods")?;
            for one in pods {
                let name = format!("bookshop/{}", one["name"].as_str().unwrap_or_default());
                let warning = one["warning"].as_str().unwrap_or_default();
                ensure!(warning.contains(told) == (name == pod), "{name}: {warning:?}");
            }
            Ok(())
        })?;
    }
    for way in [TUNNEL, DIRECT] {
        for to in way.targets(&mesh, 8080)? {
            well("all the same", &way.call(&mesh, &["get", &to.to_string()])?)?;
        }
    }
    Ok(())
}
