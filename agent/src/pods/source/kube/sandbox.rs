//! From a pod's processes to its network namespace.
//!
//! A path below `/proc/<pid>` dies with the process, and the number may be another's the next moment. So the process's
//! directory is opened once: what is read through it is that process's or fails, whoever has the number by then.

use super::tree;
use crate::pods::Netns;
use nix::{
    errno::Errno,
    fcntl::{OFlag, openat},
    sys::stat::Mode,
};
use std::{
    fs::File,
    io::{self, Read},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::MetadataExt,
    },
    path::{Path, PathBuf},
};

/// Processes of a pod that are looked at; its sandbox is the oldest.
const MOST: usize = 256;

/// Why no namespace can be found, not of this pod alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Blind {
    /// The numbers of the processes are not told.
    #[error(
        "the processes of pods have no number in this PID namespace: run the agent in the host's (hostPID: true)"
    )]
    NoPids,
    /// The namespaces may not be looked at.
    #[error("the network namespaces of other processes may not be opened: give the agent CAP_SYS_PTRACE")]
    Denied,
}

/// Device and inode of a namespace.
pub type NetnsFile = (u64, u64);

/// A namespace that was found, and a process that is in it.
#[derive(Debug)]
pub struct Found {
    /// The namespace.
    pub netns: Netns,
    /// What it is.
    pub file: NetnsFile,
    /// Some process in it.
    pub pid: i32,
}

/// Finds namespaces.
#[derive(Debug)]
pub struct Finder {
    proc: PathBuf,
    /// The node's own, which is no pod's.
    own: NetnsFile,
}

impl Finder {
    /// A finder that reads the host's processes at `proc`. The namespace of the calling thread is taken for the node's own.
    pub fn new(proc: &Path) -> io::Result<Self> {
        let own = file_of(&File::open("/proc/thread-self/ns/net")?)?;
        Ok(Self { proc: proc.to_owned(), own })
    }

    /// The namespace of the pod `uid`, whose processes these are: that of the oldest which is not in the node's. (A process
    /// that the runtime has just started may still be there.)
    pub fn find(&self, uid: &str, pids: &[i32]) -> Result<Option<Found>, Blind> {
        if !pids.is_empty() && pids.iter().all(|pid| *pid == 0) {
            return Err(Blind::NoPids);
        }
        let mut oldest: Option<(u64, i32, OwnedFd, NetnsFile)> = None;
        for pid in pids.iter().copied().filter(|pid| *pid > 0).take(MOST) {
            let Some((started, netns, file)) = self.netns_of(uid, pid)? else { continue };
            if file != self.own && oldest.as_ref().is_none_or(|(first, ..)| started < *first) {
                oldest = Some((started, pid, netns, file));
            }
        }
        let Some((_, pid, fd, file)) = oldest else { return Ok(None) };
        match Netns::of(fd) {
            Ok(netns) => Ok(Some(Found { netns, file, pid })),
            Err(error) => {
                tracing::warn!(pod_uid = uid, %error, "the network namespace of a pod cannot be entered; trying again");
                Ok(None)
            }
        }
    }

    /// Whether a process is in this namespace.
    pub fn is_in(&self, pid: i32, file: NetnsFile) -> bool {
        let path = self.proc.join(pid.to_string()).join("ns/net");
        path.metadata().is_ok_and(|m| (m.dev(), m.ino()) == file)
    }

    /// When a process of the pod was started, and its namespace; `None` where it is gone, or not of the pod (any more).
    fn netns_of(&self, uid: &str, pid: i32) -> Result<Option<(u64, OwnedFd, NetnsFile)>, Blind> {
        let Ok(process) = File::open(self.proc.join(pid.to_string())) else { return Ok(None) };
        let process = process.as_fd();
        let is_pods = text(process, "cgroup").is_some_and(|text| names(&text, uid));
        let started = text(process, "stat").and_then(|stat| started_of(&stat));
        let (true, Some(started)) = (is_pods, started) else { return Ok(None) };
        match openat(process, "ns/net", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()) {
            Ok(fd) => {
                let file = File::from(fd);
                Ok(file_of(&file).ok().map(|id| (started, file.into(), id)))
            }
            Err(Errno::EACCES | Errno::EPERM) => Err(Blind::Denied),
            Err(_) => Ok(None),
        }
    }
}

fn file_of(file: &File) -> io::Result<NetnsFile> {
    let metadata = file.metadata()?;
    Ok((metadata.dev(), metadata.ino()))
}

fn text(process: BorrowedFd<'_>, name: &str) -> Option<String> {
    /// More than a kernel with every controller writes.
    const LONGEST: u64 = 64 << 10;
    let file = openat(process, name, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()).ok()?;
    let mut text = String::new();
    File::from(file).take(LONGEST).read_to_string(&mut text).ok()?;
    Some(text)
}

/// Whether /proc/<pid>/cgroup (cgroups(7)) names the pod, in whatever hierarchy.
fn names(cgroups: &str, uid: &str) -> bool {
    let paths = cgroups.lines().filter_map(|line| line.splitn(3, ':').nth(2));
    paths.flat_map(|path| path.split('/')).any(|name| tree::uid_of(name).is_some_and(|found| found == uid))
}

/// Field 22 of proc_pid_stat(5). The second one, the name, may hold spaces and parentheses itself.
fn started_of(stat: &str) -> Option<u64> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pod_is_named_in_any_hierarchy() {
        let uid = "5f1c-10";
        for cgroups in [
            "0::/kubepods/burstable/pod5f1c-10/abc\n",
            "0::/../../kubepods.slice/kubepods-pod5f1c_10.slice/cri-containerd-abc.scope\n",
            "12:pids:/n/kubepods/pod5f1c-10/abc\n1:name=systemd:/\n0::/system\n",
        ] {
            assert!(names(cgroups, uid), "{cgroups}");
        }
        for other in ["0::/kubepods/pod5f1c-11/abc\n", "0::/kubepods/xpod5f1c-10\n", "", "0::/\n"] {
            assert!(!names(other, uid), "{other}");
        }
    }

    #[test]
    fn a_process_outside_of_the_pod_is_not_believed() {
        let finder = Finder::new(Path::new("/proc")).unwrap();
        let own = i32::try_from(std::process::id()).unwrap();
        assert_eq!(finder.find("5f1c-10", &[own]).unwrap().map(|f| f.pid), None);
        assert_eq!(finder.find("5f1c-10", &[]).unwrap().map(|f| f.pid), None);
        assert_eq!(finder.find("5f1c-10", &[0, 0]).unwrap_err(), Blind::NoPids);
        assert!(finder.is_in(own, finder.own));
    }
}
