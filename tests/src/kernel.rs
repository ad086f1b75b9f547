//! What this machine can run, and how a test says that it cannot.

use crate::{cgroup, sweep};
use anyhow::{Result, anyhow};
use nix::mount::{MsFlags, mount};
use serde::Serialize;
use std::{
    fmt, fs,
    io::ErrorKind::{AlreadyExists, NotFound},
    path::Path,
    process::Command,
};

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

/// Something that this machine lacks for namespaces and BPF programs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Missing {
    /// What.
    pub what: String,
    /// What a person does about it.
    pub mend: String,
}

impl Missing {
    fn new(what: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { what: what.into(), mend: mend.into() }
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (mend: {})", self.what, self.mend)
    }
}

/// Everything that is missing here for the mesh with capture; what can be mended without asking (a bpffs that nobody
/// mounted) is mended.
pub fn missing() -> Vec<Missing> {
    let looks = [privileges(), ip_command(), cgroups(), network_namespaces(), type_information(), bpffs()];
    looks.into_iter().filter_map(Result::err).collect()
}

/// What network namespaces, links and cgroups need.
///
/// # Errors
/// Names the first thing that is missing.
pub fn namespaces() -> Result<()> {
    for look in [privileges, ip_command, cgroups, network_namespaces] {
        look().map_err(|missing| anyhow!("{missing}"))?;
    }
    Ok(())
}

/// What the BPF programs need; mounts bpffs where nothing is mounted.
///
/// # Errors
/// Names the first thing that is missing.
pub fn bpf() -> Result<()> {
    for look in [type_information, bpffs] {
        look().map_err(|missing| anyhow!("{missing}"))?;
    }
    Ok(())
}

/// Root, and in a container also the capabilities that make it one.
fn privileges() -> Result<(), Missing> {
    /// CAP_NET_ADMIN and CAP_SYS_ADMIN, by their bits.
    const NEEDED: [(u32, &str); 2] = [(12, "CAP_NET_ADMIN"), (21, "CAP_SYS_ADMIN")];
    if !nix::unistd::geteuid().is_root() {
        return Err(Missing::new("root", "run it as root, or with sudo"));
    }
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap_or_default();
    let held = u64::from_str_radix(line.trim(), 16).unwrap_or(u64::MAX);
    let lacking: Vec<_> = NEEDED.iter().filter(|(bit, _)| held >> bit & 1 == 0).map(|(_, n)| *n).collect();
    if lacking.is_empty() {
        return Ok(());
    }
    let mend = "run it outside the container, or give the container more: docker run --privileged";
    Err(Missing::new(format!("the capabilities {}", lacking.join(" and ")), mend))
}

fn ip_command() -> Result<(), Missing> {
    let missing = |_| Missing::new("the command `ip`", "apt-get install iproute2");
    Command::new("ip").arg("-V").output().map(drop).map_err(missing)
}

/// The cgroup v2 hierarchy; as root also whether it can be written.
fn cgroups() -> Result<(), Missing> {
    let root = cgroup::root().map_err(|_| {
        Missing::new("cgroup v2", "mount -t cgroup2 none /sys/fs/cgroup (beside v1: /sys/fs/cgroup/unified)")
    })?;
    if !nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    // Another thread of this process may probe as well.
    let probe = root.join(format!("weft-probe-{}", std::process::id()));
    let made = fs::create_dir(&probe).or_else(|e| (e.kind() == AlreadyExists).then_some(()).ok_or(e));
    let removed =
        made.and_then(|()| fs::remove_dir(&probe).or_else(|e| (e.kind() == NotFound).then_some(()).ok_or(e)));
    removed.map_err(|error| {
        let mend = "mount it writable: mount -o remount,rw, or a privileged container";
        Missing::new(format!("a cgroup v2 that can be written ({}: {error})", root.display()), mend)
    })
}

/// Asked of root alone: anybody else is refused for that reason.
fn network_namespaces() -> Result<(), Missing> {
    if !nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    crate::netns::probe().map_err(|error| {
        let mend = "a kernel with CONFIG_NET_NS, and a container that may unshare";
        Missing::new(format!("network namespaces ({error:#})"), mend)
    })
}

fn type_information() -> Result<(), Missing> {
    const FILE: &str = "/sys/kernel/btf/vmlinux";
    let there = Path::new(FILE).exists();
    let mend = "a kernel with CONFIG_DEBUG_INFO_BTF, as the distributions' own are";
    there.then_some(()).ok_or_else(|| Missing::new(format!("the kernel's type information ({FILE})"), mend))
}

/// A bpffs; mounts it where nobody has, if that is allowed.
fn bpffs() -> Result<(), Missing> {
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    if mounts.lines().any(|line| line.split(' ').nth(1) == Some(sweep::BPFFS)) {
        return Ok(());
    }
    let mend = format!("mount -t bpf bpf {}", sweep::BPFFS);
    if !nix::unistd::geteuid().is_root() {
        return Err(Missing::new(format!("a bpffs at {}", sweep::BPFFS), mend));
    }
    let none: Option<&str> = None;
    mount(none, sweep::BPFFS, Some("bpf"), MsFlags::empty(), none)
        .map_err(|error| Missing::new(format!("a bpffs at {} ({error})", sweep::BPFFS), mend))
}
