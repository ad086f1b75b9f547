//! The congestion control of namespaces.

use crate::{Netns, netns::sysctl, run};
use anyhow::{Context, Result};
use nix::fcntl::{Flock, FlockArg};
use std::fs::{self, File};

/// A host may use BBR, which paces, and so halves the throughput of a veth link.
const WANTED: &str = "cubic";

const ALLOWED: &str = "net/ipv4/tcp_allowed_congestion_control";

/// Chooses CUBIC in these namespaces.
pub(crate) fn choose(namespaces: &[Netns]) -> Result<()> {
    if set(namespaces).is_ok() {
        return Ok(());
    }
    // The host does not allow it to namespaces. What it allows is looked at only when a choice is made: allow it for
    // that moment, one of us at a time, and leave the host as it was.
    fs::create_dir_all(run::DIRECTORY)?;
    let file = File::create(format!("{}/congestion.lock", run::DIRECTORY))?;
    let _lock =
        Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| errno).context("cannot lock")?;
    let before = fs::read_to_string(format!("/proc/sys/{ALLOWED}"))?;
    let before = before.trim();
    sysctl(ALLOWED, &format!("{before} {WANTED}"))?;
    let chosen = set(namespaces);
    sysctl(ALLOWED, before)?;
    chosen
}

fn set(namespaces: &[Netns]) -> Result<()> {
    namespaces.iter().try_for_each(|netns| netns.run(|| sysctl("net/ipv4/tcp_congestion_control", WANTED)))
}
