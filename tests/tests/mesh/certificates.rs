//! Certificates: they are renewed all the time, and no connection notices.

use crate::{
    between::Between,
    stage::{SOON, TUNNEL, spiffe, well},
};
use anyhow::{Context, Result, ensure};
use std::{collections::BTreeSet, fs, time::Duration};
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
    let options = Options { control: vec!["--leaf-lifetime", "5s"], ..Options::default() };
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

#[test]
fn a_signing_certificate_is_renewed_before_its_end_and_no_call_notices() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let control = vec!["--leaf-lifetime", "8s", "--intermediate-lifetime", "16s"];
    let mut mesh = Mesh::bookshop_with("signer", &Options { control, ..Options::default() })?;
    let _server = app::serve(mesh.pod(TUNNEL.to)?, "echo", 7000)?;
    let signing = mesh.control.state.join("ca/ca-cert.pem");
    let first = fs::read_to_string(&signing)?;
    let mut clients = Vec::new();
    for to in TUNNEL.targets(&mesh, 7000)?.map(|to| to.to_string()) {
        // Beyond the end of the first signing certificate, and of all that it signed.
        let new = ["connections", &to, "--rate", "20", "--in-flight", "4", "--seconds", "28"];
        let web = mesh.pod(TUNNEL.from)?;
        clients.push(app::start(web, &format!("connections-{}", clients.len()), &new)?);
    }
    // Not by what control says: where the mesh took long to start, it has said so before.
    eventually(SOON, || {
        ensure!(fs::read_to_string(&signing)? != first, "{} is the old one", signing.display());
        Ok(())
    })?;
    for client in clients {
        let name = client.name().to_owned();
        well(&name, &app::result(client, Duration::from_secs(60))?)?;
    }
    // Whoever connects to control now sees a certificate of the new one, and so does who starts again.
    for node in ["node-a", "node-b"] {
        let agent = mesh.agent(node)?;
        agent.process().stop(SOON)?;
        agent.start_again()?;
        agent.wait_ready()?;
    }
    mesh.control.process().stop(SOON)?;
    mesh.control.start_again()?;
    for to in TUNNEL.targets(&mesh, 8080)? {
        well("at last", &TUNNEL.call(&mesh, &["get", &to.to_string()])?)?;
    }
    Ok(())
}

#[test]
fn an_agent_is_ready_when_its_pods_have_certificates_and_calls_wait_for_them() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let slow = |between: &Between| between.delay_certificates(Duration::from_secs(4));
    let (mut mesh, _between) = Between::bookshop("slow-ca", slow)?;
    let state = |agent: &Agent| -> Result<(bool, Vec<String>)> {
        let all = agent.list(&["certificates"])?;
        let states = all.iter().filter_map(|c| Some(c["state"].as_str()?.to_owned())).collect();
        Ok((agent.ask(&["status"])?["ready"] == true, states))
    };
    for agent in mesh.agents.values() {
        eventually(SOON, || {
            let (ready, states) = state(agent)?;
            ensure!(!states.is_empty() && states.iter().all(|s| s == "pending"), "{states:?}");
            ensure!(!ready, "ready before its pods have certificates");
            Ok(())
        })?;
    }
    // The pods are captured already: a call that comes now waits for its certificate.
    for agent in mesh.agents.values() {
        eventually(SOON, || {
            let programs = agent.ask(&["bpf"])?["programs"].as_array().map_or(0, Vec::len);
            ensure!(programs > 0, "nothing is attached");
            Ok(())
        })?;
    }
    for to in TUNNEL.targets(&mesh, 8080)? {
        well("meanwhile", &TUNNEL.call(&mesh, &["get", &to.to_string()])?)?;
    }
    for agent in mesh.agents.values_mut() {
        agent.wait_ready()?;
        let (_, states) = state(agent)?;
        ensure!(states.iter().all(|s| s == "valid"), "ready with {states:?}");
    }
    Ok(())
}
