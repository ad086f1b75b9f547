//! The stream of flows: what opens, ends and is refused, as it happens, for whoever watches.

use super::{Live, record::RELAXED};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize},
    },
    time::SystemTime,
};
use tokio::sync::broadcast;
use weft_model::Reason;

/// What happened to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlowEvent {
    /// It was admitted.
    Open,
    /// It ended after it was admitted.
    Close,
    /// It ended before it was admitted: refused, or its peer was not reached.
    Refused,
}

impl FlowEvent {
    /// The word of the CLI.
    pub fn as_str(self) -> &'static str {
        match self {
            FlowEvent::Open => "open",
            FlowEvent::Close => "close",
            FlowEvent::Refused => "refused",
        }
    }
}

/// One event of one connection.
#[derive(Clone, Debug)]
pub struct Flow {
    /// What happened.
    pub event: FlowEvent,
    /// When.
    pub at: SystemTime,
    /// To which connection. Its counters go on while it lives.
    pub connection: Arc<Live>,
    /// How it ended; none for an opening.
    pub reason: Option<Reason>,
}

/// Where flows are published. Costs one atomic load an event while nobody watches.
#[derive(Debug)]
pub struct FlowHub {
    sender: broadcast::Sender<Flow>,
    watchers: Arc<AtomicUsize>,
    dropped: Arc<AtomicU64>,
}

impl FlowHub {
    /// A hub whose watchers may lag `backlog` events behind.
    pub fn new(backlog: usize) -> Self {
        Self {
            sender: broadcast::Sender::new(backlog.max(1)),
            watchers: Arc::default(),
            dropped: Arc::default(),
        }
    }

    /// Watches from now on.
    pub fn watch(&self) -> FlowWatch {
        self.watchers.fetch_add(1, RELAXED);
        FlowWatch {
            receiver: self.sender.subscribe(),
            watchers: self.watchers.clone(),
            dropped: self.dropped.clone(),
        }
    }

    /// Events that watchers lost because they were too slow.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(RELAXED)
    }

    /// Whether anybody watches.
    pub fn is_watched(&self) -> bool {
        self.watchers.load(RELAXED) > 0
    }

    pub(super) fn publish(&self, event: FlowEvent, connection: &Arc<Live>, reason: Option<Reason>) {
        // The channel's own count of receivers stands behind a lock that all workers share.
        if !self.is_watched() {
            return;
        }
        let flow = Flow { event, at: SystemTime::now(), connection: connection.clone(), reason };
        // The last watcher may have left since: then nobody misses the event.
        let _ = self.sender.send(flow);
    }
}

/// A reader of the flow stream.
#[derive(Debug)]
pub struct FlowWatch {
    receiver: broadcast::Receiver<Flow>,
    watchers: Arc<AtomicUsize>,
    dropped: Arc<AtomicU64>,
}

impl FlowWatch {
    /// The next event; `None` when the process is going. Events that were lost to slowness are counted and skipped.
    pub async fn next(&mut self) -> Option<Flow> {
        loop {
            match self.receiver.recv().await {
                Ok(flow) => return Some(flow),
                Err(broadcast::error::RecvError::Lagged(n)) => {
                    self.dropped.fetch_add(n, RELAXED);
                }
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }
}

impl Drop for FlowWatch {
    fn drop(&mut self) {
        self.watchers.fetch_sub(1, RELAXED);
    }
}
