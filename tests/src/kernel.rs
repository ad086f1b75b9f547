//! What this machine can run, and how a test says that it cannot.

use crate::{cgroup, sweep};
use anyhow::{Context, Result, bail, ensure};
use nix::mount::{MsFlags, mount};
use std::{fs, path::Path, process::Command};

/// Whether tests with namespaces can run here; prints why not, or fails where `WEFT_REQUIRE_KERNEL=1` forbids to skip.
#[must_use]
pub fn require_namespaces() -> bool {
    answer(namespaces())
}

/// Whether tests with namespaces and BPF programs can run here; prints why not, or fails where `WEFT_REQUIRE_KERNEL=1`
/// forbids to skip.
#[must_use]
pub fn require_kernel() -> bool {
    answer(namespaces().and_then(|()| bpf()))
}

fn answer(found: Result<()>) -> bool {
    let Err(missing) = found else { return true };
    let must = std::env::var("WEFT_REQUIRE_KERNEL").is_ok_and(|value| value == "1");
    assert!(!must, "cannot run here, and WEFT_REQUIRE_KERNEL=1 forbids to skip: {missing:#}");
    println!("SKIPPED: {missing:#}");
    false
}

/// What network namespaces, links and cgroups need.
///
/// # Errors
/// Names the first thing that is missing.
pub fn namespaces() -> Result<()> {
    ensure!(nix::unistd::geteuid().is_root(), "not root");
    Command::new("ip").arg("-V").output().context("no `ip` command (Debian package iproute2)")?;
    let probe = cgroup::root()?.join(format!("weft-probe-{}", std::process::id()));
    fs::create_dir(&probe).or_else(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => Ok(()),
        _ => Err(error).context("cannot make a cgroup"),
    })?;
    fs::remove_dir(&probe).or_else(|error| match error.kind() {
        // Another thread of this process probes as well.
        std::io::ErrorKind::NotFound => Ok(()),
        _ => Err(error).context("cannot remove a cgroup"),
    })?;
    crate::netns::probe().context("cannot make a network namespace")
}

/// What the BPF programs need; mounts bpffs where nothing is mounted.
///
/// # Errors
/// Names the first thing that is missing.
pub fn bpf() -> Result<()> {
    ensure!(
        Path::new("/sys/kernel/btf/vmlinux").exists(),
        "the kernel has no type information (/sys/kernel/btf/vmlinux, CONFIG_DEBUG_INFO_BTF)"
    );
    let mounts = fs::read_to_string("/proc/mounts")?;
    if mounts.lines().any(|line| line.split(' ').nth(1) == Some(sweep::BPFFS)) {
        return Ok(());
    }
    let none: Option<&str> = None;
    if let Err(error) = mount(none, sweep::BPFFS, Some("bpf"), MsFlags::empty(), none) {
        bail!("cannot mount bpffs at {}: {error}", sweep::BPFFS);
    }
    Ok(())
}
