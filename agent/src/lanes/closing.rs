//! How a connection ends: for a cause of the agent's own, or as its relay tells.

use crate::pods::Pod;
use std::{cell::Cell, sync::Arc};
use weft_io::{
    lifecycle::drain::Watcher,
    relay::{Broken, RelayEnd, Side},
    telemetry::Record,
};
use weft_model::Reason;

/// Waits for a cause to cut one connection, and remembers it.
pub struct Closing {
    pod: Arc<Pod>,
    drain: Watcher,
    cause: Cell<Option<Reason>>,
}

impl Closing {
    /// For a connection of `pod`. It counts as busy, in the drain's eyes, for as long as this lives.
    pub fn new(pod: Arc<Pod>, drain: Watcher) -> Self {
        Self { pod, drain, cause: Cell::new(None) }
    }

    /// Resolves when the connection of `record` must be cut: somebody asked for it, its pod is gone, or the drain's time
    /// is over.
    pub async fn wait(&self, record: &Record) {
        let mut drain = self.drain.clone();
        let cause = tokio::select! {
            cause = record.close_requested() => cause,
            () = self.pod.gone() => Reason::WorkloadGone,
            () = drain.over() => Reason::Drained,
        };
        self.cause.set(Some(cause));
    }

    /// Why [`Closing::wait`] resolved.
    pub fn cause(&self) -> Reason {
        self.cause.get().unwrap_or(Reason::Internal)
    }

    /// Why a connection ended whose relay ended like this, the client being on side `client` of it.
    pub fn reason(&self, end: RelayEnd, client: Side) -> Reason {
        match end {
            RelayEnd::Finished => Reason::Ok,
            RelayEnd::Closed => self.cause(),
            RelayEnd::Broken(_, Broken::Lost) => Reason::TunnelLost,
            RelayEnd::Broken(side, Broken::Reset) if side == client => Reason::ClientReset,
            RelayEnd::Broken(_, Broken::Reset) => Reason::ServerReset,
        }
    }
}
