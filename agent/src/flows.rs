//! What the kernel joins without a proxy, told like every other connection: the kernel's events become records.
//!
//! A direct connection has both its ends on this node, and no proxy at either. It is recorded from both sides, so that
//! metrics and logs look as if a proxy had stood at each. What the agent carries itself is recorded by the lanes.
//!
//! Direct connections outlive the agent, and its counters begin anew with each start. Each event is read once, by
//! whichever agent runs then, so that a connection counts as opened once and as closed once over all of them. Bytes that
//! went over it before this agent first looked are not counted by this agent: those between its predecessor's last look
//! and that are in no metric. The access log has the connection's own totals.

mod brief;
mod facts;

pub use crate::pods::roster::LocalPods;

use crate::kernel::{self, Ending, Event, EventKind, Events, Flow, Flows, Verdict};
use brief::Templates;
use facts::{Seen, told};
use rustc_hash::{FxHashMap, FxHashSet};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use weft_io::telemetry::{Record, Worker};
use weft_model::{Reason, SnapshotStore};

/// How often the figures of live connections are read.
const REFRESH: Duration = Duration::from_secs(2);

/// A reading is followed by a rest of this many times its length. The kernel shows every socket of the pods, those of
/// tunnelled connections too: with many thousands held, reading must not become what the agent mostly does.
pub(crate) const REST: u32 = 50;
/// The longest rest, and how often it is looked for connections that nobody has told of.
const SELDOM: Duration = Duration::from_secs(30);

/// Live connections that are followed; those beyond it are recorded when they end. Twice what the kernel's table holds,
/// since a connection may fall out of the table while it lives.
const MAX_OPEN: usize = 32_768;

/// Turns the kernel's flows into records.
pub struct KernelFlows {
    worker: Worker,
    store: Arc<SnapshotStore>,
    pods: LocalPods,
    open: FxHashMap<u64, Followed>,
    /// Opened in the batch of events that is being taken: most of them end in it, too.
    fresh: FxHashMap<u64, Flow>,
    /// Those that did.
    brief: Vec<Flow>,
    templates: Templates,
    /// When this began, on the kernel's monotonic clock.
    began: Duration,
}

/// A connection that lives: one record for each side that is told.
struct Followed {
    records: Vec<Record>,
    /// It was in the kernel's table when that was last read.
    listed: bool,
}

impl KernelFlows {
    /// Records with `worker`, naming workloads by `store` and `pods`. What was opened before `began`, on the kernel's
    /// monotonic clock, is not counted as opened again.
    pub fn new(worker: Worker, store: Arc<SnapshotStore>, pods: LocalPods, began: Duration) -> Self {
        let (open, fresh, brief, templates) = Default::default();
        Self { worker, store, pods, open, fresh, brief, templates, began }
    }

    /// Follows the kernel until the future is dropped.
    pub async fn run(mut self, mut events: Events, flows: Flows) -> std::io::Result<()> {
        // What a predecessor still records must not be recorded twice.
        events.begin().await?;
        self.began = kernel::now();
        let mut batch = Vec::new();
        // Not at once: openings that wait in the ring are to be counted before their connections are found in the table.
        let (mut rest, mut due) = (REFRESH, tokio::time::Instant::now() + REFRESH);
        loop {
            tokio::select! {
                read = events.next(&mut batch) => {
                    read?;
                    let none = self.open.is_empty();
                    batch.drain(..).for_each(|event| self.take(&event));
                    self.settle();
                    if none && !self.open.is_empty() {
                        due = due.min(tokio::time::Instant::now() + rest);
                    }
                }
                () = tokio::time::sleep_until(due) => {
                    let began = Instant::now();
                    self.refresh(&flows.all());
                    rest = (began.elapsed() * REST).clamp(REFRESH, SELDOM);
                    // While there is no direct connection, there is nothing to read but the sockets of all others.
                    due = tokio::time::Instant::now() + if self.open.is_empty() { SELDOM } else { rest };
                }
            }
        }
    }

    /// Takes one event; what follows from it is told with [`KernelFlows::settle`] at the latest.
    pub fn take(&mut self, event: &Event) {
        let flow = &event.flow;
        if is_others(flow) {
            return;
        }
        match event.kind {
            // Who watches hears of every opening.
            EventKind::Open if self.worker.telemetry().flows.is_watched() => self.follow(flow, true),
            EventKind::Open => drop(self.fresh.insert(flow.socket, *flow)),
            EventKind::Deny => {
                self.begin(flow).into_iter().for_each(|r| r.finish(Reason::PolicyDenied));
            }
            EventKind::Close if self.fresh.remove(&flow.socket).is_some() => self.brief.push(*flow),
            EventKind::Close => {
                let followed = self.open.remove(&flow.socket);
                let records = followed.map_or_else(|| self.begin(flow), |f| f.records);
                for record in records {
                    measure(&record, flow);
                    if flow.established {
                        count_opening(&record, self.is_ours(flow));
                        // One that was asked to close was cut for that.
                        let reason = record.live().requested().unwrap_or(reason_of(flow.ending));
                        record.finish(reason);
                    } else {
                        record.finish(Reason::ConnectFailed);
                    }
                }
            }
        }
    }

    /// Tells of what began, or began and ended, with the events that were taken.
    pub fn settle(&mut self) {
        for (_, flow) in std::mem::take(&mut self.fresh) {
            self.follow(&flow, true);
        }
        if !self.brief.is_empty() {
            let (snapshot, pods) = (self.store.load(), self.pods.load_full());
            self.templates.tell(&self.worker, &snapshot, &pods, &mut self.brief);
        }
    }

    /// Takes the figures of every live connection. Those that nobody told of (they began before this process) are
    /// followed from here on; those that are gone from the table twice have ended unseen.
    pub fn refresh(&mut self, live: &[Flow]) {
        let mut listed = FxHashSet::default();
        for flow in live.iter().filter(|f| f.established) {
            listed.insert(flow.socket);
            match self.open.get(&flow.socket) {
                Some(followed) => followed.records.iter().for_each(|r| measure(r, flow)),
                None => self.follow(flow, self.is_ours(flow)),
            }
        }
        self.open.retain(|socket, followed| {
            let was_listed = std::mem::replace(&mut followed.listed, listed.contains(socket));
            let stays = followed.listed || was_listed;
            if !stays {
                followed.records.drain(..).for_each(|r| r.finish(Reason::Ok));
            }
            stays
        });
    }

    /// Whether it was opened while this ran, so that nobody else has counted it.
    fn is_ours(&self, flow: &Flow) -> bool {
        flow.opened >= self.began
    }

    fn follow(&mut self, flow: &Flow, is_new: bool) {
        if self.open.len() >= MAX_OPEN || self.open.contains_key(&flow.socket) {
            return;
        }
        let records = self.begin(flow);
        if records.is_empty() {
            return;
        }
        for record in &records {
            measure(record, flow);
            count_opening(record, is_new);
        }
        self.open.insert(flow.socket, Followed { records, listed: true });
    }

    /// The records of `flow`, none where it is not for this reader to tell.
    fn begin(&self, flow: &Flow) -> Vec<Record> {
        if is_others(flow) {
            return Vec::new();
        }
        let snapshot = self.store.load();
        let seen = Seen::of(flow, &snapshot, &self.pods.load());
        let age = flow.updated.saturating_sub(flow.opened);
        let now = Instant::now();
        let started = now.checked_sub(age).unwrap_or(now);
        told(&snapshot, flow, seen).into_iter().map(|f| self.worker.record_since(f, started)).collect()
    }
}

impl Drop for KernelFlows {
    /// The agent goes, and the connections stay: the next agent finds them.
    fn drop(&mut self) {
        self.open.drain().flat_map(|(_, followed)| followed.records).for_each(Record::leave);
    }
}

/// Whether it is not for this reader to tell: the lanes tell of what goes through the agent, and nobody of a pod that talks
/// to itself.
fn is_others(flow: &Flow) -> bool {
    matches!(flow.verdict, Verdict::Agent | Verdict::Own)
}

/// Counts the connection as opened, unless the agent before this one did. Says nothing new of one that was counted.
fn count_opening(record: &Record, is_new: bool) {
    match is_new {
        true => record.open(),
        false => record.adopt(),
    }
}

/// The reason that stands for an ending.
fn reason_of(ending: Ending) -> Reason {
    match ending {
        Ending::Peace => Reason::Ok,
        Ending::ClientReset => Reason::ClientReset,
        Ending::ServerReset => Reason::ServerReset,
    }
}

/// Writes what the kernel measured at the client's socket.
fn measure(record: &Record, flow: &Flow) {
    let counters = record.counters();
    counters.set_totals(flow.bytes_sent, flow.bytes_received);
    counters.set_tcp(flow.srtt.as_micros().try_into().unwrap_or(u32::MAX), flow.retransmits);
}

#[cfg(test)]
mod tests;
