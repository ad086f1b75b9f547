//! What this machine offers: the rows of `weft-agent check`.

use super::strangers::{judge, strangers};
use aya::{
    maps::MapType,
    programs::ProgramType,
    sys::{is_map_supported, is_program_supported},
    util::KernelVersion,
};
use nix::sys::{
    resource::{Resource, getrlimit},
    statfs::{BPF_FS_MAGIC, statfs},
};
use std::{fs, path::Path};

/// The oldest kernel with all that is used; `bpf_set_retval` came last.
const OLDEST: KernelVersion = KernelVersion::new(5, 18, 0);

/// Open files below which a busy node runs out: two for each proxied connection, and then some.
const FILES: u64 = 16_384;

/// One thing that the agent needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// What it is.
    pub name: &'static str,
    /// What was found.
    pub found: String,
    /// How to mend it; `None` when it is all right.
    pub mend: Option<&'static str>,
    /// What to know about it, where it is all right.
    pub advice: Option<&'static str>,
}

impl Row {
    fn new(name: &'static str, found: impl Into<String>, ok: bool, mend: &'static str) -> Self {
        Self { name, found: found.into(), mend: (!ok).then_some(mend), advice: None }
    }

    /// Whether it is as it should be.
    pub fn is_ok(&self) -> bool {
        self.mend.is_none()
    }
}

/// Looks at everything; `contained` in a container, whose mounts end with it. Loads tiny programs to try the kernel, and leaves
/// nothing behind.
pub fn probe(contained: bool) -> Vec<Row> {
    let mut rows = vec![version(), btf(), cgroup(), bpffs(contained), others()];
    rows.extend(capabilities());
    rows.extend(programs());
    rows.extend(maps());
    rows.extend([memory(), files()]);
    rows
}

fn version() -> Row {
    let mend = "use a kernel from 5.18 on";
    let release = nix::sys::utsname::uname().map(|u| u.release().to_string_lossy().into_owned());
    match KernelVersion::current() {
        Ok(v) => Row::new("kernel", release.unwrap_or_default(), v >= OLDEST, mend),
        Err(e) => Row::new("kernel", e.to_string(), false, mend),
    }
}

fn btf() -> Row {
    let path = "/sys/kernel/btf/vmlinux";
    let ok = Path::new(path).exists();
    let found = if ok { path } else { "none" };
    Row::new("kernel types (BTF)", found, ok, "use a kernel built with CONFIG_DEBUG_INFO_BTF")
}

fn cgroup() -> Row {
    let mend = "mount it: mount -t cgroup2 none /sys/fs/cgroup/unified; better, boot with systemd.unified_cgroup_hierarchy=1, as \
                the guard wants the pods in it";
    match super::find_cgroup() {
        Ok(path) => Row::new("cgroup v2", path.display().to_string(), true, mend),
        Err(e) => Row::new("cgroup v2", e.to_string(), false, mend),
    }
}

/// Programs of others that connections meet as well.
fn others() -> Row {
    let name = "programs of others";
    let mend = "run as root";
    let found = super::find_cgroup().map_err(|e| e.to_string());
    match found.and_then(|cgroup| strangers(&cgroup).map_err(|e| e.to_string())) {
        Ok(found) => match judge(&found) {
            None => Row::new(name, "none", true, mend),
            Some((list, mend)) if found.iter().any(|one| one.alone) => Row::new(name, list, false, mend),
            Some((list, advice)) => Row { advice: Some(advice), ..Row::new(name, list, true, mend) },
        },
        Err(e) => Row::new(name, format!("cannot tell: {e}"), false, mend),
    }
}

fn bpffs(contained: bool) -> Row {
    let mounted = statfs("/sys/fs/bpf").is_ok_and(|s| s.filesystem_type() == BPF_FS_MAGIC);
    // The agent mounts it itself, if only there is a place to do so.
    let ok = mounted || !contained && Path::new("/sys/fs/bpf").is_dir() && nix::unistd::geteuid().is_root();
    let found = match (mounted, ok) {
        (true, _) => "/sys/fs/bpf",
        (false, true) => "not mounted; an agent outside of a container mounts it when it starts",
        (false, false) => "not mounted",
    };
    let mend = "mount it on the host (mount -t bpf bpf /sys/fs/bpf), and give a container the host's as a hostPath volume: what \
                is pinned must outlive the agent";
    Row::new("bpffs", found, ok, mend)
}

/// The capabilities that are needed, by the numbers of capabilities(7).
const CAPABILITIES: [(&str, u32); 3] = [("CAP_NET_ADMIN", 12), ("CAP_SYS_ADMIN", 21), ("CAP_BPF", 39)];

fn capabilities() -> impl Iterator<Item = Row> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let held = effective(&status).unwrap_or(0);
    CAPABILITIES.into_iter().map(move |(name, bit)| {
        let ok = held >> bit & 1 == 1;
        let found = if ok { "held" } else { "not held" };
        Row::new(name, found, ok, "run as root, or with this capability")
    })
}

/// The effective capabilities in the format of proc_pid_status(5).
fn effective(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|l| l.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

fn programs() -> impl Iterator<Item = Row> {
    let types = [
        ("connect programs", ProgramType::CgroupSockAddr),
        ("socket programs", ProgramType::CgroupSock),
        ("sock_ops programs", ProgramType::SockOps),
        ("sk_lookup programs", ProgramType::SkLookup),
    ];
    types.into_iter().map(|(name, kind)| {
        let answer = is_program_supported(kind);
        supported(
            name,
            answer.map_err(|e| e.to_string()),
            "use a kernel built with CONFIG_CGROUP_BPF and CONFIG_INET",
        )
    })
}

fn maps() -> impl Iterator<Item = Row> {
    let types = [
        ("socket storage", MapType::SkStorage),
        ("socket hash", MapType::SockHash),
        ("ring buffer", MapType::RingBuf),
        ("LRU hash", MapType::LruHash),
    ];
    types.into_iter().map(|(name, kind)| {
        let answer = is_map_supported(kind);
        supported(
            name,
            answer.map_err(|e| e.to_string()),
            "use a kernel built with CONFIG_BPF_STREAM_PARSER or CONFIG_BPF_SYSCALL",
        )
    })
}

fn supported(name: &'static str, answer: Result<bool, String>, mend: &'static str) -> Row {
    match answer {
        Ok(true) => Row::new(name, "supported", true, mend),
        Ok(false) => Row::new(name, "not supported", false, mend),
        Err(e) => Row::new(name, format!("cannot tell: {e}"), false, "run as root"),
    }
}

fn memory() -> Row {
    let mend = "raise `ulimit -l`, or use a kernel from 5.11 on, which counts BPF memory by cgroup";
    let counted_by_cgroup = KernelVersion::current().is_ok_and(|v| v >= KernelVersion::new(5, 11, 0));
    match getrlimit(Resource::RLIMIT_MEMLOCK) {
        Ok((soft, _)) if soft == libc::RLIM_INFINITY => Row::new("locked memory", "unlimited", true, mend),
        Ok((soft, _)) => Row::new("locked memory", format!("{} KiB", soft / 1024), counted_by_cgroup, mend),
        Err(e) => Row::new("locked memory", e.to_string(), false, mend),
    }
}

fn files() -> Row {
    let mend = "raise `ulimit -n` to 16384 or more";
    match getrlimit(Resource::RLIMIT_NOFILE) {
        // The agent raises its own limit as far as the hard one allows.
        Ok((_, hard)) => Row::new("open files", hard.to_string(), hard >= FILES, mend),
        Err(e) => Row::new("open files", e.to_string(), false, mend),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_read_from_the_status() {
        assert_eq!(effective("Name:\tx\nCapEff:\t000001ffffffffff\n"), Some(0x1ff_ffff_ffff));
        assert_eq!(effective("Name:\tx\n"), None);
    }

    #[test]
    fn every_row_that_is_not_ok_says_how_to_mend_it() {
        let rows = probe(false);
        assert!(rows.len() >= 14, "{rows:#?}");
        for row in rows {
            assert!(!row.name.is_empty() && !row.found.is_empty(), "{row:?}");
            assert_eq!(row.is_ok(), row.mend.is_none());
        }
    }
}
