//! A directory of manifests, read again whenever something in it changes.
//!
//! Change notices say *when* to look: each look is a complete one, so nothing is missed when notices are (on network file
//! systems, across a swapped symlink, past the kernel's limit on watches). They also say which files are being written, and
//! those are not believed before they are closed.

mod file;
mod notice;
mod scan;

pub use file::{Contents, read as read_file};
pub use scan::Scanner;

use super::{Batch, Source, SourceError};
use notice::{Notice, Writing};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
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
/// Where there are no notices, a file is believed when it was not written for this long, and looked at again after it.
const QUIET: Duration = Duration::from_millis(20);

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
    notices: std_mpsc::Receiver<Notice>,
    writing: Writing,
    watcher: Option<RecommendedWatcher>,
}

impl Reader {
    fn new(root: PathBuf) -> Self {
        let (tx, notices) = std_mpsc::channel();
        let watcher = watch(&root, tx)
            .inspect_err(|error| {
                tracing::warn!(root = %root.display(), %error, "no change notices; reading every {RESCAN:?}");
            })
            .ok();
        Self { scanner: Scanner::new(root), notices, writing: Writing::default(), watcher }
    }

    fn run(mut self, batches: &mpsc::Sender<Batch>) {
        let mut first = true;
        loop {
            let batch = self.look(first);
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

    fn look(&mut self, first: bool) -> Option<Batch> {
        let now = Instant::now();
        self.writing.forget_old(now);
        let (writing, watched) = (&self.writing, self.watcher.is_some());
        // At the first look there is no earlier version to prefer.
        let is_unfinished =
            |path: &Path| !first && (writing.holds(path) || (!watched && scan::is_younger(path, QUIET)));
        self.scanner.scan_without(now, is_unfinished)
    }

    /// Waits for a notice and the end of its burst, for a file that must be looked at again, or for the safety interval.
    fn wait(&mut self) {
        let now = Instant::now();
        let unfinished = self.watcher.is_none() && self.scanner.left_out();
        let soon = [self.scanner.recheck_in(now), self.writing.due(now), unfinished.then_some(QUIET)];
        let longest = soon.into_iter().flatten().min().unwrap_or(RESCAN);
        match self.notices.recv_timeout(longest) {
            Ok(notice) => self.writing.hear(notice, Instant::now()),
            Err(RecvTimeoutError::Timeout) => return,
            // Without a watcher there is nobody to send.
            Err(RecvTimeoutError::Disconnected) => return std::thread::sleep(longest),
        }
        let start = Instant::now();
        while start.elapsed() < LONGEST_BURST
            && let Ok(notice) = self.notices.recv_timeout(DEBOUNCE)
        {
            self.writing.hear(notice, Instant::now());
        }
    }
}

fn watch(root: &Path, notices: std_mpsc::Sender<Notice>) -> notify::Result<RecommendedWatcher> {
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        for notice in Notice::of(event) {
            // The reader is gone only when the process is about to be.
            let _ = notices.send(notice);
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
