//! A full disk: everything goes on, what could not be written is named, and is written when there is room.

use crate::stage::{DIRECT, SOON, TUNNEL, authorize, await_policy, spiffe, well};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::{fs, path::Path, time::Duration};
use weft_tests::{
    Cluster, Manifests, Mesh, Run, binaries, disk::Disk, eventually, mesh::Options, require_kernel,
};

/// The bookshop, laid out and with its applications running, but not meshed yet.
fn bookshop(purpose: &str) -> Result<(Cluster, Vec<weft_tests::Process>)> {
    let manifests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/bookshop");
    let cluster = Cluster::build(Run::unique(purpose)?, Manifests::read(&manifests)?)?;
    let applications = cluster.start_applications()?;
    Ok((cluster, applications))
}

fn serves(mesh: &Mesh) -> Result<()> {
    for way in [TUNNEL, DIRECT] {
        for to in way.targets(mesh, 8080)? {
            well(&format!("{} → {to}", way.from), &way.call(mesh, &["get", &to.to_string()])?)?;
        }
    }
    Ok(())
}

fn cache_error(mesh: &Mesh) -> Result<String> {
    let status = mesh.agents["node-a"].ask(&["status"])?;
    ensure!(status["ready"] == true, "{status}");
    Ok(status["control"]["cache_error"].as_str().unwrap_or_default().to_owned())
}

#[test]
fn an_agent_whose_disk_is_full_serves_and_keeps_its_state_when_there_is_room() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let (cluster, applications) = bookshop("disk")?;
    let cache = cluster.run.directory().join("node-a/cache");
    let disk = Disk::mount(&cache, 64)?;
    let mut mesh = Mesh::join(cluster, applications)?;
    let kept = cache.join("state");
    eventually(SOON, || fs::read(&kept).map(drop).context("nothing is kept"))?;
    disk.fill()?;
    for name in ["one", "two", "three"] {
        authorize(&mesh, name, "web", "ALLOW", "{}")?;
        await_policy(&mesh, name, true)?;
    }
    eventually(SOON, || {
        let error = cache_error(&mesh)?;
        let parts = [kept.to_str().context("a path is not UTF-8")?, "No space left", "make room"];
        ensure!(parts.iter().all(|part| error.contains(part)), "{error:?}");
        Ok(())
    })?;
    serves(&mesh)?;
    let agent = mesh.agent("node-a")?;
    let complaint = |line: &&str| line.contains("state not cached") && line.contains("No space left");
    let complaints = agent.process().log()?.lines().filter(complaint).count();
    ensure!(complaints == 1, "it complains {complaints} times");
    ensure!(agent.run(&["status"])?.contains("No space left"), "people are not told");
    // Nothing changes any more, and still it is written when that is possible.
    disk.free()?;
    eventually(SOON, || {
        let error = cache_error(&mesh)?;
        ensure!(error.is_empty(), "{error}");
        Ok(())
    })?;
    mesh.control.process().kill()?;
    let agent = mesh.agent("node-a")?;
    agent.process().stop(SOON)?;
    agent.start_again()?;
    agent.wait_ready()?;
    let policies = mesh.agents["node-a"].list(&["policies"])?;
    ensure!(policies.iter().any(|p| p["name"] == "three"), "{}", Value::from(policies));
    serves(&mesh)
}

#[test]
fn a_control_plane_whose_disk_is_full_serves_starts_again_and_renews_when_there_is_room() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let (cluster, applications) = bookshop("disk-control")?;
    let disk = Disk::mount(&cluster.run.directory().join("control/state"), 256)?;
    let control = vec!["--leaf-lifetime", "5s", "--intermediate-lifetime", "40s"];
    let mut mesh = Mesh::join_with(cluster, applications, &Options { control, ..Options::default() })?;
    disk.fill()?;
    let serial = |mesh: &Mesh| -> Result<String> {
        let all = mesh.agents["node-a"].list(&["certificates"])?;
        let own = all.iter().find(|c| c["identity"] == spiffe(TUNNEL.from)).context("no certificate")?;
        ensure!(own["state"] == "valid", "{own}");
        Ok(own["serial"].as_str().context("no serial")?.to_owned())
    };
    let first = serial(&mesh)?;
    eventually(SOON, || {
        ensure!(serial(&mesh)? != first, "it is not renewed");
        Ok(())
    })?;
    authorize(&mesh, "heard", "web", "ALLOW", "{}")?;
    await_policy(&mesh, "heard", true)?;
    // What stands on the disk is enough for a start.
    mesh.control.process().kill()?;
    mesh.control.start_again()?;
    serves(&mesh)?;
    let patience = Duration::from_secs(40);
    mesh.control.process().wait_for_line(patience, |line| {
        ["cannot be renewed", "ca/ca-cert.pem", "No space left", "make room"]
            .iter()
            .all(|part| line.contains(part))
    })?;
    serves(&mesh)?;
    disk.free()?;
    mesh.control
        .process()
        .wait_for_line(patience, |line| line.contains("the signing certificate is renewed"))?;
    serves(&mesh)
}

#[test]
fn a_first_start_on_a_full_disk_says_what_it_could_not_write_and_leaves_nothing_half_made() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let (cluster, _applications) = bookshop("disk-first")?;
    let state = cluster.run.directory().join("first");
    let disk = Disk::mount(&state, 64)?;
    disk.fill()?;
    let start = |root: &str| {
        let (state, manifests) = (state.to_str().unwrap_or_default(), cluster.manifests.directory.to_str());
        let args = ["run", "--manifests", manifests.unwrap_or_default(), "--state", state, "--root", root];
        cluster.control.output(binaries::find("weft-control")?, &args, Duration::from_secs(20))
    };
    let said = start(&format!("{}/root.pem", state.display()))?;
    let text = String::from_utf8_lossy(&said.stderr);
    ensure!(!said.status.success(), "it started");
    let parts = ["certificate authority", "/first/ca", "No space left", "make room"];
    ensure!(parts.iter().all(|part| text.contains(part)), "{text}");
    ensure!(text.matches("No space left").count() == 1, "said twice: {text}");
    ensure!(!state.join("ca.new").exists(), "half an authority is left");
    disk.free()?;
    // The next start makes the authority; a place where nothing can be written is another fault, told as such.
    let said = start("/proc/root.pem")?;
    let text = String::from_utf8_lossy(&said.stderr);
    ensure!(state.join("ca/ca-cert.pem").exists() && text.contains("/proc/root.pem"), "{text}");
    Ok(())
}
