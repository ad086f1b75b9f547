//! Being told of cgroups that come and go.

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use std::{collections::BTreeSet, path::PathBuf};
use tokio::sync::mpsc;

/// Watches directories. Where the kernel allows no watch, looking by the clock is all that is left, and is said once.
pub struct Watch {
    events: mpsc::Receiver<()>,
    watcher: Option<RecommendedWatcher>,
    watched: BTreeSet<PathBuf>,
    complained: bool,
}

impl Watch {
    /// Watches nothing yet.
    pub fn new() -> Self {
        let (tx, events) = mpsc::channel(1);
        let tell = move |event: notify::Result<notify::Event>| {
            let is_news = event.is_ok_and(|e| matches!(e.kind, EventKind::Create(_) | EventKind::Remove(_)));
            if is_news {
                // Full means that a look is already due.
                let _ = tx.try_send(());
            }
        };
        let mut watch = Self { events, watcher: None, watched: BTreeSet::new(), complained: false };
        match notify::recommended_watcher(tell) {
            Ok(watcher) => watch.watcher = Some(watcher),
            Err(error) => watch.complain(&error),
        }
        watch
    }

    /// Watches these and no others. Watches of directories that are gone have ended by themselves.
    pub fn follow(&mut self, wanted: &BTreeSet<PathBuf>) {
        let Some(mut watcher) = self.watcher.take() else { return };
        for gone in self.watched.difference(wanted) {
            let _ = watcher.unwatch(gone);
        }
        let mut watched: BTreeSet<_> = self.watched.intersection(wanted).cloned().collect();
        let mut failed = None;
        for new in wanted.difference(&self.watched) {
            match watcher.watch(new, RecursiveMode::NonRecursive) {
                Ok(()) => drop(watched.insert(new.clone())),
                // It may be gone by now.
                Err(error) => failed = Some(error).filter(|_| new.exists()).or(failed),
            }
        }
        if let Some(error) = failed {
            self.complain(&error);
        }
        self.watched = watched;
        self.watcher = Some(watcher);
    }

    /// The next news; for ever none where there is no watcher.
    pub async fn news(&mut self) {
        if self.events.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
    }

    fn complain(&mut self, error: &notify::Error) {
        if !std::mem::replace(&mut self.complained, true) {
            tracing::warn!(%error, "the cgroups of pods cannot be watched; looking every second (see fs.inotify.max_user_watches)");
        }
    }
}
