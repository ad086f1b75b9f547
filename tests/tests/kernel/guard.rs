//! Pods of which it is not known yet whether they take part.

use crate::stage::{SERVICE_PORT, Stage, TestPod, VIP, at, catalog};
use anyhow::{Context, Result, ensure};
use std::{collections::BTreeSet, fs, path::PathBuf};
use weft_agent::kernel::{Guarded, Kernel, KernelError};
use weft_model::Delta;
use weft_tests::{Place, app, require_kernel};

/// Where nothing of the mesh is; an application listens at each.
const OUTSIDE: [&str; 2] = ["10.77.0.4", "fd77::4"];
/// The address of an enrolled pod.
const MESHED: [&str; 2] = ["10.77.0.3", "fd77::3"];

/// A stage, the kubelet's cgroup on it, and a pod there that nobody has classified: `other`.
fn stage() -> Result<(Stage, PathBuf, Place)> {
    let stage = Stage::new()?;
    let kubepods = stage.run.cgroup()?.join("kubepods");
    let pod = kubepods.join("besteffort/pod0-1/container");
    fs::create_dir_all(&pod)?;
    let place = stage.other.place(&stage.run, &pod);
    Ok((stage, kubepods, place))
}

/// What becomes of a connection from the place: the error's name, or none.
fn connect(place: &Place, to: &str, port: u16) -> Result<Option<String>> {
    let to = at(to, port).to_string();
    let got = app::run(place, &["get", &to, "--patience", "2"])?;
    Ok((got["ok"] != true).then(|| got["error"].as_str().unwrap_or_default().to_owned()))
}

fn refused() -> Option<String> {
    Some("ECONNREFUSED".to_owned())
}

#[test]
fn a_pod_that_is_not_known_yet_reaches_nothing_of_the_mesh_and_all_else() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let (mut stage, kubepods, place) = stage()?;
    let beside = stage.run.cgroup()?.join("system");
    fs::create_dir_all(&beside)?;
    let serve = |pod: &TestPod| app::serve_http(&pod.place(&stage.run, &beside), 80);
    let servers = [serve(&stage.db)?, serve(&stage.other)?];
    for to in MESHED.into_iter().chain(OUTSIDE) {
        ensure!(connect(&place, to, 80)?.is_none(), "{to}: nothing is guarded yet");
    }
    stage.kernel.guard(&kubepods, Guarded::Mesh)?;
    let before = stage.counter("guarded")?;
    for to in MESHED {
        ensure!(connect(&place, to, 80)? == refused(), "{to} is in the mesh");
    }
    ensure!(stage.counter("guarded")? == before + 2, "each is counted");
    for to in OUTSIDE.into_iter().chain(["127.0.0.1", "::1"]) {
        ensure!(connect(&place, to, 80)?.is_none(), "{to} is not");
    }
    // A pod that takes part, and one that is known not to.
    let web = stage.web.place(&stage.run, &place.cgroup);
    let classified = BTreeSet::from([stage.other.cookie]);
    stage.kernel.pass(&classified)?;
    for place in [&web, &place] {
        for to in MESHED {
            ensure!(connect(place, to, 80)?.is_none(), "{} to {to}", place.name);
        }
    }
    // What an agent has classified stays so when the next one comes.
    stage.reload()?;
    ensure!(connect(&place, MESHED[0], 80)?.is_none(), "known before");
    stage.kernel.pass_only(&BTreeSet::new())?;
    ensure!(connect(&place, MESHED[0], 80)? == refused(), "gone since");
    stage.kernel.unguard()?;
    ensure!(connect(&place, MESHED[0], 80)?.is_none(), "not guarded any more");
    drop(servers);
    Ok(())
}

#[test]
fn everything_may_be_guarded_and_what_is_not_of_the_kubelet_never_is() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let (mut stage, kubepods, place) = stage()?;
    let beside = stage.run.cgroup()?.join("system");
    fs::create_dir_all(&beside)?;
    let _server = app::serve_http(&stage.other.place(&stage.run, &beside), 80)?;
    stage.kernel.guard(&kubepods, Guarded::All)?;
    ensure!(connect(&place, "10.77.0.1", 9)? == refused(), "outside of the mesh as well");
    ensure!(connect(&place, "127.0.0.1", 80)?.is_none(), "but itself");
    let container = stage.other.place(&stage.run, &beside);
    ensure!(connect(&container, OUTSIDE[0], 80)?.is_none(), "the same namespace, another cgroup");
    // A pod on the node's network is the node.
    let on_node = Place { netns: stage.node.clone(), ..place.clone() };
    ensure!(connect(&on_node, OUTSIDE[0], 80)?.is_none(), "hostNetwork");
    Kernel::detach_all(&stage.config.pin_dir)?;
    ensure!(connect(&place, OUTSIDE[0], 80)?.is_none(), "nothing is left");
    Ok(())
}

#[test]
fn where_everything_is_guarded_nobody_reaches_a_pod_before_it_is_known() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let (mut stage, kubepods, place) = stage()?;
    let _server = app::serve_http(&place, 80)?;
    let on_node = Place { netns: stage.node.clone(), cgroup: stage.run.cgroup()?, ..place.clone() };
    for (guarded, reached) in [(Guarded::Mesh, true), (Guarded::All, false)] {
        stage.kernel.guard(&kubepods, guarded)?;
        let programs = stage.kernel.stats()?.programs;
        if guarded == Guarded::All && !programs.iter().any(|p| p.name.starts_with("weft_guard_in")) {
            println!("SKIPPED: this kernel does not tell such a program whose packet it is (6.15 does)");
            return Ok(());
        }
        for to in OUTSIDE {
            let got = connect(&on_node, to, 80)?;
            ensure!(got.is_none() == reached, "{guarded:?}: {to}: {got:?}");
        }
    }
    // Itself it reaches, and once it is known everybody does, whichever way it was decided.
    for to in ["127.0.0.1", "::1"].into_iter().chain(OUTSIDE) {
        ensure!(connect(&place, to, 80)?.is_none() == (to != OUTSIDE[0] && to != OUTSIDE[1]), "{to}");
    }
    stage.kernel.pass(&BTreeSet::from([stage.other.cookie]))?;
    for to in OUTSIDE {
        ensure!(connect(&on_node, to, 80)?.is_none(), "{to}: it is known");
    }
    stage.kernel.pass_only(&BTreeSet::new())?;
    stage.kernel.guard(&kubepods, Guarded::Mesh)?;
    for to in OUTSIDE {
        ensure!(connect(&on_node, to, 80)?.is_none(), "{to}: only the mesh is guarded");
    }
    Ok(())
}

#[test]
fn a_service_with_nobody_of_the_mesh_behind_it_is_outside() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let (mut stage, kubepods, place) = stage()?;
    stage.kernel.guard(&kubepods, Guarded::Mesh)?;
    // Nobody answers at the address of the service: whoever gets that far waits in vain.
    let waits = ["EAGAIN", "ETIMEDOUT", "EHOSTUNREACH"].map(str::to_owned);
    let addresses = stage.db.addresses;
    for (behind, guarded) in [(Vec::new(), false), (vec![("db", &addresses[..])], true)] {
        stage.apply(catalog(&behind))?;
        let got = connect(&place, VIP[0], SERVICE_PORT)?;
        let name = got.clone().context("nobody is there")?;
        ensure!(if guarded { got == refused() } else { waits.contains(&name) }, "{name}, {behind:?}");
    }
    stage.apply(vec![Delta::ServiceGone("shop/catalog.shop".parse()?)])?;
    Ok(())
}

#[test]
fn a_cgroup_that_is_made_anew_or_is_another_one_is_guarded_again() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let (mut stage, kubepods, place) = stage()?;
    let beside = stage.run.cgroup()?.join("system");
    fs::create_dir_all(&beside)?;
    let _server = app::serve_http(&stage.db.place(&stage.run, &beside), 80)?;
    stage.kernel.guard(&kubepods, Guarded::Mesh)?;
    ensure!(stage.kernel.is_guarding(&kubepods) && connect(&place, MESHED[0], 80)? == refused());
    // The node's clean-up, and a kubelet that starts afterwards.
    for dir in place.cgroup.ancestors().take_while(|dir| dir.starts_with(&kubepods)) {
        fs::remove_dir(dir)?;
    }
    ensure!(!stage.kernel.is_guarding(&kubepods), "it is gone");
    fs::create_dir_all(&place.cgroup)?;
    ensure!(!stage.kernel.is_guarding(&kubepods), "of the same name, and another one");
    ensure!(connect(&place, MESHED[0], 80)?.is_none(), "nobody guards it yet");
    stage.kernel.guard(&kubepods, Guarded::Mesh)?;
    ensure!(stage.kernel.is_guarding(&kubepods) && connect(&place, MESHED[0], 80)? == refused());
    // A kubelet with another cgroup driver: the old cgroup stays behind.
    let systemd = kubepods.with_file_name("kubepods.slice");
    let there = Place { cgroup: systemd.join("kubepods-pod0_1.slice/cri-a.scope"), ..place.clone() };
    fs::create_dir_all(&there.cgroup)?;
    ensure!(!stage.kernel.is_guarding(&systemd) && connect(&there, MESHED[0], 80)?.is_none());
    stage.kernel.guard(&systemd, Guarded::Mesh)?;
    ensure!(stage.kernel.is_guarding(&systemd) && connect(&there, MESHED[0], 80)? == refused());
    ensure!(
        !stage.kernel.is_guarding(&kubepods) && connect(&place, MESHED[0], 80)?.is_none(),
        "it has moved"
    );
    Ok(())
}

#[test]
fn cgroups_of_v1_are_said_to_be_no_place_for_a_guard() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let mut stage = Stage::new()?;
    let error = stage.kernel.guard(&stage.run.directory(), Guarded::Mesh).err().context("it is refused")?;
    ensure!(
        matches!(error, KernelError::GuardNeedsV2 { .. }) && error.to_string().contains("guard: off"),
        "{error}"
    );
    Ok(())
}
