//! A directory of manifests, read again whenever something in it changes.
//!
//! Change notices only say *when* to look: each look is a complete one, so nothing is missed when notices are (on network
//! file systems, across a swapped symlink, past the kernel's limit on watches).

mod file;
mod scan;

pub use file::{Contents, read as read_file};
pub use scan::Scanner;

use super::{Batch, Source, SourceError};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use std::{
    path::{Path, PathBuf},
    sync::mpsc::{self as std_mpsc, RecvTimeoutError},
    time::{Duration, Instant},
};
use tokio::sync::mpsc;

/// A burst of notices (an editor's save, a checkout) is answered by one look.
const DEBOUNCE: Duration = Duration::from_millis(10);
/// A burst that does not end is looked into after this long all the same.
const LONGEST_BURST: Duration = Duration::from_millis(100);
/// Without any notice.
const RESCAN: Duration = Duration::from_secs(5);

/// Reads `*.yaml`, `*.yml` and `*.json` below a directory.
#[derive(Debug)]
pub struct DirectorySource {
    root: PathBuf,
}

impl DirectorySource {
    /// The manifests below `root`.
    pub fn new(root: PathBuf) -> Self {
        Self { root }
    }
}

impl Source for DirectorySource {
    fn start(self: Box<Self>) -> Result<mpsc::Receiver<Batch>, SourceError> {
        if !self.root.is_dir() {
            return Err(SourceError::NotADirectory(self.root));
        }
        let (batches, receiver) = mpsc::channel(1);
        let read = move || Reader::new(self.root).run(&batches);
        std::thread::Builder::new().name("manifests".into()).spawn(read).map_err(SourceError::Thread)?;
        Ok(receiver)
    }
}

struct Reader {
    scanner: Scanner,
    notices: std_mpsc::Receiver<()>,
    _watcher: Option<RecommendedWatcher>,
}

impl Reader {
    fn new(root: PathBuf) -> Self {
        let (tx, notices) = std_mpsc::channel();
        let watcher = watch(&root, tx)
            .inspect_err(|error| {
                tracing::warn!(root = %root.display(), %error, "no change notices; reading every {RESCAN:?}");
            })
            .ok();
        Self { scanner: Scanner::new(root), notices, _watcher: watcher }
    }

    fn run(mut self, batches: &mpsc::Sender<Batch>) {
        let mut first = true;
        loop {
            let batch = self.scanner.scan(Instant::now());
            if let Some(batch) = batch.or(first.then(Batch::default))
                && batches.blocking_send(batch).is_err()
            {
                return;
            }
            first = false;
            self.wait();
            if batches.is_closed() {
                return;
            }
        }
    }

    /// Waits for a notice and the end of its burst, for a file that must be looked at again, or for the safety interval.
    fn wait(&self) {
        let longest = self.scanner.recheck_in(Instant::now()).unwrap_or(RESCAN);
        match self.notices.recv_timeout(longest) {
            Ok(()) => {}
            Err(RecvTimeoutError::Timeout) => return,
            // Without a watcher there is nobody to send.
            Err(RecvTimeoutError::Disconnected) => return std::thread::sleep(longest),
        }
        let start = Instant::now();
        while start.elapsed() < LONGEST_BURST && self.notices.recv_timeout(DEBOUNCE).is_ok() {}
    }
}

fn watch(root: &Path, notices: std_mpsc::Sender<()>) -> notify::Result<RecommendedWatcher> {
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // Looking at a file must not count as a change of it.
        if !matches!(&event, Ok(e) if matches!(e.kind, EventKind::Access(_))) {
            // The reader is gone only when the process is about to be.
            let _ = notices.send(());
        }
    })?;
    watcher.watch(root, RecursiveMode::Recursive)?;
    // Where the root itself is a symlink, its swap is seen only in the directory that holds it.
    if root.is_symlink()
        && let Some(parent) = root.parent().filter(|p| !p.as_os_str().is_empty())
    {
        watcher.watch(parent, RecursiveMode::NonRecursive)?;
    }
    Ok(watcher)
}

#[cfg(test)]
mod tests;
