//! Network namespaces: named handles, and work done inside them.

use crate::{congestion, ip};
use anyhow::{Context, Result};
use nix::sched::{CloneFlags, setns};
use std::{fs, fs::File, path::PathBuf, sync::Arc, thread};

/// A named network namespace (`/run/netns/<name>`). It is removed with its run; this is only a handle.
#[derive(Clone, Debug)]
pub struct Netns {
    name: String,
    file: Arc<File>,
}

impl Netns {
    /// Makes namespaces of these names, with their loopback up, duplicate address detection off (addresses are usable
    /// at once), and CUBIC as congestion control: a host that uses BBR would halve the throughput of a veth link.
    pub fn create(names: &[String]) -> Result<Vec<Self>> {
        ip::batch(None, &names.iter().map(|name| format!("netns add {name}")).collect::<Vec<_>>())?;
        let made = names.iter().map(|name| Self::open(name)).collect::<Result<Vec<_>>>()?;
        congestion::choose(&made)?;
        for netns in &made {
            netns.run(|| {
                sysctl("net/ipv6/conf/all/accept_dad", "0")?;
                sysctl("net/ipv6/conf/default/accept_dad", "0")
            })?;
            netns.ip(&["link set lo up".into()])?;
        }
        Ok(made)
    }

    /// The namespace called `name`.
    pub fn open(name: &str) -> Result<Self> {
        let path = PathBuf::from("/run/netns").join(name);
        let file = File::open(&path).with_context(|| format!("no namespace at {}", path.display()))?;
        Ok(Self { name: name.to_owned(), file: Arc::new(file) })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its handle in the file system, as `setns` and the agent want it.
    pub fn path(&self) -> PathBuf {
        PathBuf::from("/run/netns").join(&self.name)
    }

    /// Runs `work` on a thread of its own inside the namespace: sockets made there belong to it for good, and processes
    /// started there begin in it.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let inside = || {
            setns(&*self.file, CloneFlags::CLONE_NEWNET)
                .with_context(|| format!("cannot enter namespace {}", self.name))?;
            work()
        };
        match thread::scope(|scope| scope.spawn(inside).join()) {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    /// Runs a future to its end inside the namespace, on a runtime of one thread.
    pub fn block_on<T: Send, F: Future<Output = Result<T>>>(
        &self,
        work: impl FnOnce() -> F + Send,
    ) -> Result<T> {
        self.run(|| tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work()))
    }

    /// Runs `ip` commands inside the namespace.
    pub fn ip(&self, commands: &[String]) -> Result<()> {
        ip::batch(Some(&self.name), commands)
    }
}

/// Sets a sysctl (a path below /proc/sys) of the namespace that this thread is in.
pub(crate) fn sysctl(key: &str, value: &str) -> Result<()> {
    let path = format!("/proc/sys/{key}");
    fs::write(&path, value).with_context(|| format!("cannot write {value} to {path}"))
}

/// Whether this process may make network namespaces: makes one that is gone with its thread.
pub(crate) fn probe() -> Result<()> {
    match thread::spawn(|| nix::sched::unshare(CloneFlags::CLONE_NEWNET)).join() {
        Ok(result) => Ok(result?),
        Err(panic) => std::panic::resume_unwind(panic),
    }
}
