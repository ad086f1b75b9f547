//! A run: the name under which a scenario, a demo or a benchmark makes things on this machine.
//!
//! Namespaces are called `<run>-<what>`, the cgroup subtree `<cgroup2>/<run>`, BPF pins `<bpffs>/<run>`, and files stand
//! in `/run/weft-runs/<run>`. The owner holds a lock on `/run/weft-runs/<run>/lock` while it lives: a run whose lock is free and
//! that was not asked to stay is a leftover, whatever became of its process id.

use crate::{cgroup, sweep};
use anyhow::{Context, Result, bail};
use nix::fcntl::{Flock, FlockArg};
use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
};

/// What every run's name begins with.
pub const PREFIX: &str = "weft-";

/// Where the runs keep their files.
pub const DIRECTORY: &str = "/run/weft-runs";

/// The environment variable that names a directory in which every run leaves its logs, to be looked at afterwards.
const SAVE_LOGS: &str = "WEFT_SAVE_LOGS";

/// The file in a run's directory that its owner holds locked.
pub(crate) const LOCK: &str = "lock";

/// The file in a run's directory that asks for the run to stay.
pub(crate) const KEEP: &str = "keep";

/// One run; dropping it removes all that carries its name, unless [`Run::keep`] was called.
#[derive(Debug)]
pub struct Run {
    name: String,
    kept: AtomicBool,
    shown: AtomicBool,
    _lock: Flock<File>,
}

impl Run {
    /// A run with a name of its own, `weft-<purpose><process id>-<number>`.
    pub fn unique(purpose: &str) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        Self::named(&format!("{purpose}{}-{number}", std::process::id()))
    }

    /// The names of the runs that this process made by [`Run::unique`] and that are still there.
    pub fn of_this_process() -> Result<Vec<String>> {
        let ours = |name: &String| is_unique_of(name, std::process::id());
        Ok(sweep::names()?.into_iter().filter(ours).collect())
    }

    /// The run `weft-<name>`; what an earlier one of that name left behind is removed first.
    ///
    /// # Errors
    /// When a run of that name is going on.
    pub fn named(name: &str) -> Result<Self> {
        let name = format!("{PREFIX}{name}");
        let Some(lock) = lock(&name)? else { bail!("a run called {name} is going on in another process") };
        sweep::clear(&name)?;
        fs::create_dir_all(directory(&name).join("logs"))?;
        fs::create_dir_all(cgroup::root()?.join(&name)).context("cannot make the run's cgroup")?;
        Ok(Self { name, kept: AtomicBool::default(), shown: AtomicBool::default(), _lock: lock })
    }

    /// The name, with the prefix.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The run's own directory, removed with it.
    pub fn directory(&self) -> PathBuf {
        directory(&self.name)
    }

    /// Where the processes' output goes.
    pub fn logs(&self) -> PathBuf {
        self.directory().join("logs")
    }

    /// The run's cgroup (v2).
    pub fn cgroup(&self) -> Result<PathBuf> {
        Ok(cgroup::root()?.join(&self.name))
    }

    /// Leave everything in place when this value goes; `sweep::remove` takes it away later.
    pub fn keep(&self) -> Result<()> {
        fs::write(self.directory().join(KEEP), "")?;
        self.kept.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Prints the end of every log when this value goes. For scenarios: what a test prints is shown only where it failed, and
    /// one that returns its error does not panic.
    pub fn show_logs(&self) {
        self.shown.store(true, Ordering::Relaxed);
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if self.kept.load(Ordering::Relaxed) {
            return;
        }
        if std::thread::panicking() || self.shown.load(Ordering::Relaxed) {
            print_logs(&self.logs());
        }
        if let Some(directory) = std::env::var_os(SAVE_LOGS)
            && let Err(error) = save_logs(&self.logs(), &Path::new(&directory).join(&self.name))
        {
            eprintln!("{}: saving the logs: {error}", self.name);
        }
        if let Err(error) = sweep::remove(&self.name) {
            eprintln!("{}: cleaning up: {error:#}", self.name);
        }
    }
}

/// Whether `name` was given by [`Run::unique`] in the process `id`.
fn is_unique_of(name: &str, id: u32) -> bool {
    let Some((front, number)) = name.rsplit_once('-') else { return false };
    let purpose = front.trim_end_matches(|c: char| c.is_ascii_digit());
    number.parse::<u32>().is_ok() && front[purpose.len()..] == id.to_string()
}

/// Copies every log.
fn save_logs(logs: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(logs)?.flatten() {
        fs::copy(entry.path(), to.join(entry.file_name()))?;
    }
    Ok(())
}

/// The directory of the run called `name`.
pub(crate) fn directory(name: &str) -> PathBuf {
    Path::new(DIRECTORY).join(name)
}

/// The lock of the run called `name`, or nothing when another process holds it.
pub(crate) fn lock(name: &str) -> Result<Option<Flock<File>>> {
    let directory = directory(name);
    fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
    let file = File::create(directory.join(LOCK))?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Some(lock)),
        Err((_, nix::errno::Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, errno)) => Err(errno).context("cannot lock the run"),
    }
}

/// Shows the end of every log: a failed scenario is read from its output alone.
fn print_logs(logs: &Path) {
    const LINES: usize = 40;
    let Ok(entries) = fs::read_dir(logs) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        let Ok(text) = fs::read(&path) else { continue };
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<_> = text.lines().collect();
        eprintln!("---- the last lines of {}", path.display());
        for line in &lines[lines.len().saturating_sub(LINES)..] {
            eprintln!("{line}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::is_unique_of;

    #[test]
    fn a_unique_name_tells_whose_it_is() {
        assert!(is_unique_of("weft-bench-mesh412-0", 412));
        for other in ["weft-bench-mesh1412-0", "weft-bench-mesh412-x", "weft-demo", "weft-412"] {
            assert!(!is_unique_of(other, 412), "{other}");
        }
    }
}
