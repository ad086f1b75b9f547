//! The one writer: takes what the source says, and makes it known.

use crate::{issue::Placement, metrics::Metrics, report, serve::Resources, source::Batch};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;
use weft_api::ObjectKey;
use weft_index::{Change, Finding, Index};
use weft_io::discovery::convert::Kind;

/// Findings are worked out at most this often: nodes wait for changes, and nobody for those.
const FINDINGS: Duration = Duration::from_millis(250);

/// What it writes to.
pub(super) struct Fold {
    pub index: Index,
    pub resources: Arc<Resources>,
    pub placement: Arc<Placement>,
    pub metrics: Arc<Metrics>,
    /// What is wrong beside the objects.
    pub troubles: watch::Receiver<Vec<Finding>>,
    pub findings: watch::Sender<Arc<Vec<Finding>>>,
    pub ready: watch::Sender<bool>,
}

/// What the source said last of what it cannot read, and where objects stand.
#[derive(Default)]
struct Said {
    findings: Vec<Finding>,
    places: BTreeMap<ObjectKey, String>,
    /// When findings are to be worked out, where something changed since they were.
    due: Option<Instant>,
}

impl Fold {
    pub(super) async fn run(mut self, mut batches: mpsc::Receiver<Batch>, shutdown: CancellationToken) {
        let (mut said, mut last) = (Said::default(), None);
        loop {
            let due = said.due;
            let batch = tokio::select! {
                batch = batches.recv() => batch,
                () = async { sleep_until(due.unwrap_or_else(Instant::now)).await }, if due.is_some() => {
                    self.tell(&said);
                    (said.due, last) = (None, Some(Instant::now()));
                    continue;
                }
                Ok(()) = self.troubles.changed() => {
                    said.due.get_or_insert_with(Instant::now);
                    continue;
                }
                () = shutdown.cancelled() => return,
            };
            let Some(batch) = batch else { return tracing::error!("the reader of objects ended") };
            if batch.more {
                self.apply(batch.changes);
                continue;
            }
            let now = Instant::now();
            let soonest = last.map_or(now, |last: Instant| last + FINDINGS);
            let due = said.due.unwrap_or(soonest.max(now));
            said = self.take(batch);
            said.due = Some(due);
        }
    }

    fn take(&mut self, batch: Batch) -> Said {
        let Batch { changes, findings, places, more: _ } = batch;
        self.apply(changes);
        self.metrics.batch();
        if !self.ready.send_replace(true) {
            let counts = Kind::ALL.map(|kind| self.resources.count(kind));
            tracing::info!(resources = counts.iter().sum::<usize>(), "objects read; nodes are served");
        }
        Said { findings, places, due: None }
    }

    fn apply(&mut self, changes: Vec<Change>) {
        let count = changes.len();
        let deltas = self.index.apply(changes);
        // A node that hears of a workload asks for its certificate at once: it must be known by then where it runs.
        self.placement.apply(&deltas);
        self.resources.apply(&deltas);
        tracing::debug!(changes = count, deltas = deltas.len(), "changes read");
    }

    fn tell(&self, said: &Said) {
        let mut elsewhere = said.findings.clone();
        elsewhere.extend(self.troubles.borrow().iter().cloned());
        let findings = report::merge(&elsewhere, self.index.findings(), &said.places);
        let counts = Kind::ALL.map(|kind| (kind, self.resources.count(kind)));
        self.metrics.state(counts, &findings);
        report::log(&self.findings.borrow(), &findings);
        self.findings.send_replace(Arc::new(findings));
    }
}
