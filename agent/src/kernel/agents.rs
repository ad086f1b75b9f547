//! Which processes are agents.

use super::{KernelError, maps::Table, own_pid, pins::Pins};
use std::{
    fs, io,
    path::{Path, PathBuf},
    process,
};

/// The registered agents: process id -> when it started, so that a later process with the same id is not mistaken for
/// one.
pub(super) struct Agents {
    table: Table<u32, u32>,
    /// The host's processes.
    proc: PathBuf,
}

impl Agents {
    /// Opens the table and strikes off agents that are gone: whoever gets their id next must not inherit their rights.
    pub(super) fn open(pins: &Pins, proc: &Path) -> Result<Self, KernelError> {
        let mut agents = Self { table: Table::open(pins, "AGENTS")?, proc: proc.to_owned() };
        let known: Vec<_> = agents.table.entries().collect();
        for (pid, started) in known {
            let is_there = start_time(&agents.proc, pid).ok() == Some(started);
            if !is_there && !is_running(&agents.proc, started) {
                agents.unregister(pid)?;
            }
        }
        Ok(agents)
    }

    pub(super) fn register(&mut self, pid: u32) -> Result<(), KernelError> {
        // In another PID namespace than the initial one this process's number there is somebody else's here.
        let is_self = own_pid::own_pid().is_ok_and(|own| own == pid);
        let (proc, here) = if is_self { (Path::new("/proc"), process::id()) } else { (&*self.proc, pid) };
        let path = proc.join(here.to_string()).join("stat");
        let started = start_time(proc, here).map_err(KernelError::file("read", path))?;
        self.table.put(pid, started)
    }

    pub(super) fn unregister(&mut self, pid: u32) -> Result<(), KernelError> {
        self.table.delete(pid)
    }
}

/// Whether an agent that started then still runs, under whatever number it has in the namespace of `proc`.
fn is_running(proc: &Path, started: u32) -> bool {
    let Ok(all) = fs::read_dir(proc) else { return false };
    let mut pids = all.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.any(|pid: u32| {
        let is_agent = || fs::read_to_string(proc.join(pid.to_string()).join("comm"));
        start_time(proc, pid).ok() == Some(started)
            && is_agent().is_ok_and(|name| name.starts_with("weft-agent"))
    })
}

/// When a process started, in clock ticks since boot (the lower half).
fn start_time(proc: &Path, pid: u32) -> io::Result<u32> {
    let stat = fs::read_to_string(proc.join(pid.to_string()).join("stat"))?;
    started_of(&stat).ok_or_else(|| io::Error::other("unexpected format"))
}

/// Field 22 of proc_pid_stat(5). The second one, the name, may hold spaces and parentheses itself.
fn started_of(stat: &str) -> Option<u32> {
    let (_, rest) = stat.rsplit_once(')')?;
    let ticks: u64 = rest.split_whitespace().nth(19)?.parse().ok()?;
    Some(ticks as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_is_found_behind_any_name() {
        let stat =
            "7 (we) ft) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4242 1000 50 18446744073709551615";
        assert_eq!(started_of(stat), Some(4242));
        assert_eq!(started_of(""), None);
        assert!(start_time(Path::new("/proc"), process::id()).is_ok());
        assert!(!is_running(Path::new("/proc"), 1), "nothing of that name started then");
    }
}
