//! Writes the cache behind the client's back: off the path of responses, at most once a second.

use super::{Sink, held, held::Held};
use crate::discovery::cache::{CacheError, CacheFile};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::sync::Notify;
use weft_model::Snapshot;

/// Changes come in bursts; one write serves a burst.
const PAUSE: Duration = Duration::from_secs(1);

/// Writes the state each time that it `changed`, for ever.
pub(super) async fn keep(
    cache: CacheFile,
    sink: Arc<dyn Sink>,
    held: Arc<Mutex<Held>>,
    changed: Arc<Notify>,
) {
    loop {
        changed.notified().await;
        tokio::time::sleep(PAUSE).await;
        // Responses apply under the same lock, so the snapshot and its versions belong together.
        let (snapshot, versions) = {
            let held = held::lock(&held);
            (sink.snapshot(), held.all_versions())
        };
        let cache = cache.clone();
        let write = move || write(&cache, &snapshot, &versions);
        match tokio::task::spawn_blocking(write).await {
            Ok(Ok(())) => tracing::debug!("state cached"),
            Ok(Err(error)) => {
                tracing::warn!(%error, "state not cached; a restart without control would use older state")
            }
            Err(error) => tracing::warn!(%error, "writing the state cache was interrupted"),
        }
    }
}

fn write(cache: &CacheFile, snapshot: &Snapshot, versions: &held::Versions) -> Result<(), CacheError> {
    cache.store(snapshot, |kind, name| versions.get(kind, name))
}
