//! Programs that outlive whoever starts them, each in a cgroup of its own: that is how they are found again.

use crate::{cgroups, files};
use anyhow::{Result, bail, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};
use weft_tests::cgroup;

/// A long-running program; the value is a handle, its end does not end the program.
#[derive(Clone, Debug)]
pub(crate) struct Daemon {
    /// What it is called, in messages and in its log's name.
    pub name: String,
    /// Its cgroup, relative to the hierarchy's root.
    pub cgroup: String,
    /// Where its output goes.
    pub log: PathBuf,
}

impl Daemon {
    /// The program `name` of a group of programs.
    pub(crate) fn new(group: &str, logs: &Path, prefix: &str, name: &str) -> Self {
        Self {
            name: name.to_owned(),
            cgroup: format!("{group}/{name}"),
            log: logs.join(format!("{prefix}{name}.log")),
        }
    }

    /// Starts it where it does not run.
    pub(crate) fn ensure(&self, command: &[OsString]) -> Result<()> {
        if self.is_running()? {
            return Ok(());
        }
        let cgroup = cgroups::v2(&self.cgroup)?;
        files::directory(&cgroup)?;
        if let Some(logs) = self.log.parent() {
            files::directory(logs)?;
        }
        // Detached twice: it is nobody's child but init's, so that no zombie stays with us. It enters its cgroup
        // before its first instruction; our own code between fork and exec would need `unsafe`.
        const SCRIPT: &str = r#"cd / && cgroup=$0 && log=$1 && shift &&
            (echo 0 >"$cgroup" && exec setsid "$@" </dev/null >>"$log" 2>&1) &"#;
        let mut shell = Command::new("/bin/sh");
        shell.arg("-c").arg(SCRIPT).arg(cgroup.join("cgroup.procs")).arg(&self.log).args(command);
        let status = shell.stdin(Stdio::null()).stdout(Stdio::null()).status()?;
        ensure!(status.success(), "cannot start {}: {status}", self.name);
        Ok(())
    }

    /// Whether a process of it is there.
    pub(crate) fn is_running(&self) -> Result<bool> {
        let events = cgroups::v2(&self.cgroup)?.join("cgroup.events");
        Ok(std::fs::read_to_string(events).is_ok_and(|text| text.contains("populated 1")))
    }

    /// Its processes, without those in cgroups below.
    pub(crate) fn processes(&self) -> Result<Vec<i32>> {
        let cgroup = cgroups::v2(&self.cgroup)?;
        if cgroup.exists() { cgroup::processes(&cgroup) } else { Ok(Vec::new()) }
    }

    /// SIGTERM, some patience, then SIGKILL for what is left.
    pub(crate) fn stop(&self, patience: Duration) -> Result<()> {
        for process in self.processes()? {
            kill(Pid::from_raw(process), Signal::SIGTERM).ok();
        }
        let end = Instant::now() + patience;
        while self.is_running()? && Instant::now() < end {
            thread::sleep(Duration::from_millis(20));
        }
        self.kill()
    }

    /// SIGKILL, as a crash would be; on return nothing of it runs.
    pub(crate) fn kill(&self) -> Result<()> {
        cgroup::remove(&cgroups::v2(&self.cgroup)?)
    }

    /// Tries `ready` until it works, as long as the program runs; then says what its log ends with.
    pub(crate) fn wait<T>(&self, limit: Duration, mut ready: impl FnMut() -> Result<T>) -> Result<T> {
        let begun = Instant::now();
        loop {
            let error = match ready() {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            let why = if begun.elapsed() > limit {
                format!("is not ready after {limit:?} ({error:#})")
            } else if begun.elapsed() > Duration::from_secs(1) && !self.is_running()? {
                "has ended".to_owned()
            } else {
                thread::sleep(Duration::from_millis(50));
                continue;
            };
            bail!("{} {why}; {} ends:\n{}", self.name, self.log.display(), files::tail(&self.log));
        }
    }
}
