//! Writes the cache behind the client's back: off the path of responses, at once, and not more than once a second.

use super::{Sink, Status, held, held::Held};
use crate::discovery::cache::{CacheError, CacheFile};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep_until, timeout},
};
use weft_model::Snapshot;

/// From the start of one write to the start of the next: changes come in bursts.
const PAUSE: Duration = Duration::from_secs(1);
/// What could not be written is tried again this often: a disk that is full need not stay so.
const AGAIN: Duration = Duration::from_secs(5);

/// Writes the state each time that it `changed`, for ever.
pub(super) async fn keep(
    cache: CacheFile,
    node_pods: bool,
    sink: Arc<dyn Sink>,
    held: Arc<Mutex<Held>>,
    changed: Arc<Notify>,
    status: watch::Sender<Status>,
) {
    let mut last = Last {
        cache: cache.clone(),
        node_pods,
        sink: sink.clone(),
        held: held.clone(),
        kept: sink.snapshot(),
    };
    let mut failed = false;
    loop {
        if failed {
            // A change is the end of the wait as well.
            let _ = timeout(AGAIN, changed.notified()).await;
        } else {
            changed.notified().await;
        }
        let started = Instant::now();
        // Responses apply under the same lock, so the snapshot and its versions belong together.
        let (snapshot, versions) = {
            let held = held::lock(&held);
            (sink.snapshot(), held.all_versions())
        };
        let (file, kept) = (cache.clone(), snapshot.clone());
        let write = move || write(&file, &snapshot, node_pods, &versions);
        let error = match tokio::task::spawn_blocking(write).await {
            Ok(written) => written.err().map(|error| error.to_string()),
            Err(error) => Some(format!("writing the state cache was interrupted: {error}")),
        };
        match &error {
            None if failed => tracing::info!(path = %cache.path.display(), "the state is cached again"),
            None => tracing::debug!("state cached"),
            Some(error) if !failed => {
                tracing::warn!(%error, "state not cached; a restart without control would use older state; trying again");
            }
            Some(_) => {}
        }
        failed = error.is_some();
        if !failed {
            last.kept = kept;
        }
        status.send_if_modified(|s| {
            let differs = s.cache_error != error;
            s.cache_error = error;
            differs
        });
        sleep_until(started + PAUSE).await;
    }
}

/// Keeps what came since the last write when the client ends: an agent that is started anew would bring the kernel's maps
/// back to what was before it.
struct Last {
    cache: CacheFile,
    node_pods: bool,
    sink: Arc<dyn Sink>,
    held: Arc<Mutex<Held>>,
    /// What the file holds.
    kept: Arc<Snapshot>,
}

impl Drop for Last {
    fn drop(&mut self) {
        let held = held::lock(&self.held);
        let snapshot = self.sink.snapshot();
        if Arc::ptr_eq(&snapshot, &self.kept) {
            return;
        }
        if let Err(error) = write(&self.cache, &snapshot, self.node_pods, &held.all_versions()) {
            tracing::warn!(%error, "the last state not cached; a restart without control would use older state");
        }
    }
}

fn write(
    cache: &CacheFile,
    snapshot: &Snapshot,
    node_pods: bool,
    versions: &held::Versions,
) -> Result<(), CacheError> {
    cache.store(snapshot, node_pods, |kind, name| versions.get(kind, name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use weft_model::{Delta, Service, SnapshotStore};

    #[tokio::test]
    async fn what_came_since_the_last_write_is_kept_at_the_end() {
        let directory = tempfile::tempdir().unwrap();
        let cache = CacheFile { path: directory.path().join("state"), limit: 1 << 20 };
        let (store, changed) = (Arc::new(SnapshotStore::default()), Arc::new(Notify::new()));
        let (status, _) = watch::channel(Status::new("http://control", false));
        let keeper = keep(cache.clone(), false, store.clone(), Arc::default(), changed.clone(), status);
        let keeper = tokio::spawn(keeper);
        let tell = |name: &str| {
            store.apply(vec![Delta::Service(Service::new("shop", name, format!("{name}.shop.svc")))]);
            changed.notify_one();
        };
        let kept = || cache.load().unwrap().map_or(0, |cached| cached.deltas.len());
        tell("first");
        while kept() < 1 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // It waits for its pause to be over.
        tell("second");
        keeper.abort();
        assert!(keeper.await.is_err_and(|error| error.is_cancelled()));
        assert_eq!(kept(), 2);
    }
}
