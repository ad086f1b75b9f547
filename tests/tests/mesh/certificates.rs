//! Certificates: they are renewed all the time, and no connection notices.

use crate::stage::{SOON, TUNNEL, spiffe, well};
use anyhow::{Context, Result, ensure};
use std::{collections::BTreeSet, time::Duration};
use weft_tests::{Agent, Mesh, app, eventually, mesh::Options, require_kernel};

/// The serial number of an identity's certificate.
fn serial(agent: &Agent, identity: &str) -> Result<String> {
    let all = agent.list(&["certificates"])?;
    let own =
        all.iter().find(|c| c["identity"] == identity).with_context(|| format!("none of {identity}"))?;
    ensure!(own["state"] == "valid", "{own}");
    Ok(own["serial"].as_str().context("no serial")?.to_owned())
}

#[test]
fn renewals_under_load_break_no_connection() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let options = Options { control: vec!["--leaf-lifetime", "10s"], ..Options::default() };
    let mesh = Mesh::bookshop_with("rotate", &options)?;
    let _server = app::serve(mesh.pod(TUNNEL.to)?, "echo", 7000)?;
    let mut clients = Vec::new();
    for to in TUNNEL.targets(&mesh, 7000)?.map(|to| to.to_string()) {
        let web = mesh.pod(TUNNEL.from)?;
        let held = ["hold", &to, "--connections", "20", "--seconds", "12", "--every-ms", "100"];
        clients.push(app::start(web, &format!("hold-{}", clients.len()), &held)?);
        let new = ["connections", &to, "--rate", "50", "--in-flight", "8", "--seconds", "12"];
        clients.push(app::start(web, &format!("connections-{}", clients.len()), &new)?);
    }
    // Longer than one certificate lives: who does not renew is found out.
    for (node, pod) in [("node-a", TUNNEL.from), ("node-b", TUNNEL.to)] {
        let (agent, identity) = (&mesh.agents[node], spiffe(pod));
        let mut seen = BTreeSet::new();
        eventually(SOON, || {
            seen.insert(serial(agent, &identity)?);
            ensure!(seen.len() >= 4, "{} certificates of {identity} so far", seen.len());
            Ok(())
        })?;
    }
    for client in clients {
        let name = client.name().to_owned();
        well(&name, &app::result(client, Duration::from_secs(60))?)?;
    }
    Ok(())
}
