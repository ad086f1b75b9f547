//! Processes in their place: a namespace and a cgroup.

use crate::{Netns, Run};
use anyhow::{Context, Result, bail, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    ffi::OsStr,
    fs::{self, File},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

/// How often a wait looks again.
const POLL: Duration = Duration::from_millis(5);

/// Where a process runs: a network namespace and a cgroup, both the run's.
#[derive(Clone, Debug)]
pub struct Place {
    /// What it is called in logs: `node-a`, `bookshop/web`.
    pub name: String,
    /// The namespace.
    pub netns: Netns,
    /// The cgroup; what runs here is below it from its first instruction on.
    pub cgroup: PathBuf,
    /// The run that it belongs to.
    pub run: Arc<Run>,
}

impl Place {
    /// A command that begins in this place.
    fn command(&self, program: &OsStr, args: &[&str]) -> Command {
        // The shell moves itself and is then replaced: the process is in its cgroup before the program's first
        // instruction, with the process id that we know. Any of our own code between fork and exec would need `unsafe`.
        let mut command = Command::new("/bin/sh");
        command.args(["-c", r#"echo 0 >"$0" && exec "$@""#]).arg(self.cgroup.join("cgroup.procs"));
        command.arg(program).args(args).stdin(Stdio::null());
        // A group of its own: Ctrl-C is for us, who then clean up in order.
        command.process_group(0);
        command
    }

    /// Starts a process that goes on, its output in the log `<name>.log` of the run.
    pub fn spawn(&self, name: &str, program: impl AsRef<OsStr>, args: &[&str]) -> Result<Process> {
        let command = self.command(program.as_ref(), args);
        self.netns.run(|| Process::start(name, command, &self.run.logs()))
    }

    /// Runs a program to its end and gives its output; kills it when `limit` is over.
    pub fn output(&self, program: impl AsRef<OsStr>, args: &[&str], limit: Duration) -> Result<Output> {
        let program = program.as_ref();
        let what = format!("{} {} in {}", program.display(), args.join(" "), self.name);
        let mut command = self.command(program, args);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = self.netns.run(|| Ok(command.spawn()?)).context("cannot start a process")?;
        finish(child, &what, limit)
    }
}

/// Runs a command to its end, here and as the user that we are, and gives its output; kills it when `limit` is over.
pub fn output(mut command: Command, limit: Duration) -> Result<Output> {
    let what = format!("{command:?}");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().with_context(|| format!("cannot start {what}"))?;
    finish(child, &what, limit)
}

/// Waits for the end of `child`, whose pipes are drained while the clock runs, or a talkative one would never end.
fn finish(child: Child, what: &str, limit: Duration) -> Result<Output> {
    let pid = pid(&child);
    let reader = thread::spawn(move || child.wait_with_output());
    let end = Instant::now() + limit;
    while !reader.is_finished() {
        if Instant::now() >= end {
            kill(pid, Signal::SIGKILL).ok();
            let output = reader.join().map_err(|_| anyhow::anyhow!("the reader panicked"))??;
            bail!("{what} took longer than {limit:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        thread::sleep(POLL);
    }
    Ok(reader.join().map_err(|_| anyhow::anyhow!("the reader panicked"))??)
}

/// A running process; killed when dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    /// Where this process's part of the log begins.
    seen: u64,
}

impl Process {
    /// Starts a command that goes on, its output in the log `<name>.log` of the directory `logs`.
    pub fn start(name: &str, mut command: Command, logs: &Path) -> Result<Self> {
        let log = logs.join(format!("{}.log", name.replace('/', ".")));
        let output = File::options().create(true).append(true).open(&log)?;
        let seen = output.metadata()?.len();
        command.stdout(output.try_clone()?).stderr(output);
        let child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        Ok(Self { name: name.to_owned(), child, log, seen })
    }

    /// Its name, as given at the start.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// All that it has printed so far.
    pub fn log(&self) -> Result<String> {
        let all = fs::read(&self.log).with_context(|| format!("cannot read {}", self.log.display()))?;
        let from = usize::try_from(self.seen)?.min(all.len());
        Ok(String::from_utf8_lossy(&all[from..]).into_owned())
    }

    /// Waits for a line of its output that `wanted` accepts, and gives it.
    pub fn wait_for_line(&mut self, limit: Duration, wanted: impl Fn(&str) -> bool) -> Result<String> {
        let end = Instant::now() + limit;
        loop {
            let log = self.log()?;
            // The last line may still be in the making.
            let whole = log.rfind('\n').map_or("", |last| &log[..last]);
            if let Some(line) = whole.lines().find(|line| wanted(line)) {
                return Ok(line.to_owned());
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended ({status}) before it was ready:\n{log}", self.name);
            }
            ensure!(Instant::now() < end, "{} is not ready after {limit:?}:\n{log}", self.name);
            thread::sleep(POLL);
        }
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill(pid(&self.child), signal)?)
    }

    /// Waits for its end.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let end = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            ensure!(Instant::now() < end, "{} did not end within {limit:?}", self.name);
            thread::sleep(POLL);
        }
    }

    /// SIGTERM, then waits for its end.
    pub fn stop(&mut self, limit: Duration) -> Result<ExitStatus> {
        self.signal(Signal::SIGTERM)?;
        self.wait(limit)
    }

    /// SIGKILL, as a crash would be.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Lets it run on when this value goes (a kept demo); the run's cgroup still knows it.
    pub fn detach(self) {
        // A `Child` that is merely dropped goes on; ours would be killed by `drop`.
        std::mem::forget(self);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// SIGKILL for a process that was started in a group of its own, and for all who descend from it.
pub fn kill_group(leader: u32) {
    kill(Pid::from_raw(-leader.cast_signed()), Signal::SIGKILL).ok();
}

fn pid(child: &Child) -> Pid {
    Pid::from_raw(child.id().cast_signed())
}
