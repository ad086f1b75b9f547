//! What can go wrong between the agent and the kernel, and how it is mended.

use aya::{EbpfError, maps::MapError, programs::ProgramError};
use std::{io, path::PathBuf};

/// Why something could not be done in the kernel.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// A file, a mount or a namespace.
    #[error("{what} {}: {source}{}", .path.display(), hint(.source))]
    File {
        /// What was tried.
        what: &'static str,
        /// On which path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The pods' cgroups are of v1, where programs cannot be attached.
    #[error(
        "{} is no cgroup of v2: pods that start are not kept from connecting before they are known; have the container \
         runtime put them into cgroup v2, or say `guard: off`",
        .path.display()
    )]
    GuardNeedsV2 {
        /// The kubelet's cgroup.
        path: PathBuf,
    },
    /// There is no place for pins that outlives the agent.
    #[error(
        "no bpffs is mounted at {}: what is pinned there must outlive this container; mount it on the host (mount -t bpf bpf \
         /sys/fs/bpf, which systemd does by itself), and give the container the host's /sys/fs/bpf as a hostPath volume",
        .path.display()
    )]
    NoBpffs {
        /// The directory for the pins.
        path: PathBuf,
    },
    /// There is no cgroup v2 hierarchy.
    #[error("no cgroup2 file system is mounted: mount one (mount -t cgroup2 none /sys/fs/cgroup/unified)")]
    NoCgroup,
    /// A map.
    #[error("map {name}: {source}{}", full(.source))]
    Map {
        /// Its name.
        name: &'static str,
        /// What the system said.
        source: MapError,
    },
    /// The object did not load.
    #[error("the kernel programs cannot be loaded: {0}")]
    Object(#[from] EbpfError),
    /// The kernel refused a program; the text holds the verifier's own log where it wrote one.
    #[error("program {name}: {source}")]
    Program {
        /// Its name.
        name: &'static str,
        /// What the kernel said.
        source: ProgramError,
    },
    /// A system call.
    #[error("{call}: {source}{}", hint(.source))]
    Call {
        /// Which.
        call: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The programs' log lines.
    #[cfg(feature = "kernel-log")]
    #[error("the log lines of the kernel programs cannot be read: {0}")]
    Log(aya_log::Error),
    /// An enrolled pod has more listeners of a role than the kernel's map has room for.
    #[error("a pod may have {} listeners of a role, not {given}", weft_ebpf_abi::LISTENER_SLOTS)]
    TooManyListeners {
        /// How many were given.
        given: usize,
    },
    /// What an agent after this one should find does not fit into the kernel's map.
    #[error("{bytes} bytes are too much to keep for the agent after this one")]
    TooManyToKeep {
        /// How many there are.
        bytes: usize,
    },
}

impl KernelError {
    /// Turns a map's error into one that names the map.
    pub(super) fn map(name: &'static str) -> impl FnOnce(MapError) -> Self {
        move |source| Self::Map { name, source }
    }

    /// Turns an I/O error into one that says what was tried where.
    pub(super) fn file(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { what, path, source }
    }

    /// Turns a system call's error into one that names the call.
    pub(super) fn call(call: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Call { call, source }
    }
}

fn full(error: &MapError) -> &'static str {
    match error {
        MapError::SyscallError(e) if e.io_error.raw_os_error() == Some(libc::E2BIG) => {
            " (the map is full: `weft-agent bpf` shows its size; spread the pods over more nodes, or trim the mesh)"
        }
        _ => "",
    }
}

fn hint(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => " (root is needed, or CAP_BPF, CAP_NET_ADMIN and CAP_SYS_ADMIN)",
        Some(libc::ENOMEM) => " (locked memory: raise `ulimit -l`, or use a kernel from 5.11 on)",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aya::sys::SyscallError;

    #[test]
    fn a_full_map_is_named_and_the_mend_is_told() {
        let io_error = io::Error::from_raw_os_error(libc::E2BIG);
        let source = MapError::SyscallError(SyscallError { call: "bpf_map_update_elem", io_error });
        let text = KernelError::Map { name: "DESTINATIONS", source }.to_string();
        assert!(text.contains("DESTINATIONS") && text.contains("the map is full"), "{text}");
    }
}
