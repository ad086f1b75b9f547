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
        let file = cache.clone();
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
        status.send_if_modified(|s| {
            let differs = s.cache_error != error;
            s.cache_error = error;
            differs
        });
        sleep_until(started + PAUSE).await;
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
