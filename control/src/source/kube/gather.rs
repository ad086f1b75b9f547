//! What the kinds say, put together: everything in the first batch, and after it what changed within a moment.

use super::watch::Told;
use crate::source::Batch;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use tokio::{sync::mpsc, time::Instant};
use weft_api::Kind;
use weft_index::{Change, Finding};

/// How long it is waited for what belongs to a change: a pod and its EndpointSlice, say.
const MOMENT: Duration = Duration::from_millis(5);
/// A batch does not grow beyond so many changes.
const MOST: usize = 4096;

/// The first state is told in parts of so many changes.
const PART: usize = 1000;

/// Makes batches of what the kinds say.
pub(super) struct Gather {
    /// The kinds without which the mesh cannot be told yet.
    awaited: BTreeSet<Kind>,
    changes: Vec<Change>,
    findings: BTreeMap<Kind, Vec<Finding>>,
    /// Whether there is something to tell.
    news: bool,
}

impl Gather {
    /// For these kinds.
    pub(super) fn new(kinds: &[Kind]) -> Self {
        let awaited = kinds.iter().copied().collect();
        Self { awaited, changes: Vec::new(), findings: BTreeMap::new(), news: true }
    }

    /// Sends batches until one of the two sides is gone.
    pub(super) async fn run(mut self, mut kinds: mpsc::Receiver<Told>, batches: mpsc::Sender<Batch>) {
        loop {
            let told = tokio::select! {
                told = kinds.recv() => told,
                () = batches.closed() => return,
            };
            let Some(told) = told else { return };
            self.take(told);
            let end = Instant::now() + MOMENT;
            while self.awaited.is_empty() && self.changes.len() < MOST {
                match tokio::time::timeout_at(end, kinds.recv()).await {
                    Ok(Some(told)) => self.take(told),
                    Ok(None) | Err(_) => break,
                }
            }
            if let Some(batch) = self.batch()
                && batches.send(batch).await.is_err()
            {
                return;
            }
        }
    }

    /// Takes in what a kind says.
    pub(super) fn take(&mut self, told: Told) {
        self.news |= !told.changes.is_empty();
        self.changes.extend(told.changes);
        if let Some(findings) = told.findings {
            if !self.awaited.is_empty() {
                // Nobody gets a batch yet that would carry them.
                crate::report::log(self.findings.get(&told.kind).map_or(&[], Vec::as_slice), &findings);
            }
            self.news = true;
            self.findings.insert(told.kind, findings);
        }
        if told.settled {
            self.awaited.remove(&told.kind);
        }
    }

    /// What is to be told now. Before everything is there it is told in parts: the objects of a large cluster, all held at
    /// once, take several times what the fold keeps of them.
    pub(super) fn batch(&mut self) -> Option<Batch> {
        if !self.awaited.is_empty() {
            let is_much = self.changes.len() >= PART;
            let changes = || std::mem::take(&mut self.changes);
            return is_much.then(changes).map(|changes| Batch { changes, more: true, ..Batch::default() });
        }
        if !std::mem::take(&mut self.news) {
            return None;
        }
        // The kinds find out one by one that the API is away; that is one finding.
        let findings: BTreeSet<&Finding> = self.findings.values().flatten().collect();
        let findings = findings.into_iter().cloned().collect();
        Some(Batch { changes: std::mem::take(&mut self.changes), findings, ..Batch::default() })
    }
}
