//! The table of live connections.
//!
//! Each worker writes its own shard, so that opening and closing connections never waits for another worker; a reader
//! that lists the table takes the shards one after the other, and holds none while it works on what it found.

use super::{
    Brief,
    record::{Counters, Facts, Path, RELAXED},
    series::{Series, SeriesTable, Traffic},
};
use rustc_hash::FxHashMap;
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, atomic::AtomicU64},
    time::{Duration, Instant, SystemTime},
};
use tokio::sync::Notify;
use weft_model::Reason;

/// The low bits of a connection's id name its shard.
const SHARD_BITS: u32 = 8;

/// One connection that lives now (or just ended, for who still holds it).
#[derive(Debug)]
pub struct Live {
    /// Its number, unique in this process.
    pub id: u64,
    /// When it began.
    pub started: Instant,
    /// What has gone over it.
    pub counters: Counters,
    facts: Mutex<Facts>,
    series: OnceLock<Arc<Series>>,
    /// How much of `counters` the metrics have already been told, so that long connections count while they live.
    told_to_server: AtomicU64,
    told_to_client: AtomicU64,
    ended: OnceLock<Instant>,
    close: OnceLock<Reason>,
    closing: Notify,
}

impl Live {
    fn new(id: u64, facts: Facts, started: Instant) -> Self {
        Self {
            id,
            started,
            counters: Counters::default(),
            facts: Mutex::new(facts),
            series: OnceLock::new(),
            told_to_server: AtomicU64::new(0),
            told_to_client: AtomicU64::new(0),
            ended: OnceLock::new(),
            close: OnceLock::new(),
            closing: Notify::new(),
        }
    }

    /// What is known of it now.
    pub fn facts(&self) -> Facts {
        self.locked().clone()
    }

    /// Looks at what is known of it without copying. `look` must be short: the connection's owner waits meanwhile.
    pub fn with_facts<T>(&self, look: impl FnOnce(&Facts) -> T) -> T {
        look(&self.locked())
    }

    /// How long it has lived, or lived until it ended.
    pub fn age(&self) -> Duration {
        match self.ended.get() {
            Some(at) => at.saturating_duration_since(self.started),
            None => self.started.elapsed(),
        }
    }

    /// When it began, by the wall clock of now.
    pub fn started_at(&self) -> SystemTime {
        SystemTime::now().checked_sub(self.started.elapsed()).unwrap_or(SystemTime::UNIX_EPOCH)
    }

    /// Whether it was admitted and counted as opened.
    pub fn is_open(&self) -> bool {
        self.series.get().is_some()
    }

    /// Asks its owner to close it for `reason`. The first who asks says why; whether this call was it, is returned.
    pub fn close(&self, reason: Reason) -> bool {
        let first = self.close.set(reason).is_ok();
        if first {
            self.closing.notify_one();
        }
        first
    }

    /// Why it was asked to close, if it was.
    pub fn requested(&self) -> Option<Reason> {
        self.close.get().copied()
    }

    pub(super) async fn close_requested(&self) -> Reason {
        loop {
            if let Some(reason) = self.requested() {
                return reason;
            }
            self.closing.notified().await;
        }
    }

    pub(super) fn update(&self, change: impl FnOnce(&mut Facts)) {
        change(&mut self.locked());
    }

    fn locked(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Finds the connection's metric series and counts it as opened there; `false` if that was done before.
    pub(super) fn join_series(&self, table: &SeriesTable) -> bool {
        if self.series.get().is_some() {
            return false;
        }
        let series = table.hold(self.with_facts(Traffic::of));
        series.count_opened();
        self.series.set(series).is_ok()
    }

    /// Finds the connection's metric series as [`Live::join_series`] does, but for a connection that was counted as opened
    /// before, with what has gone over it so far.
    pub(super) fn adopt_series(&self, table: &SeriesTable) {
        if self.series.get().is_some() {
            return;
        }
        self.told_to_server.store(self.counters.to_server(), RELAXED);
        self.told_to_client.store(self.counters.to_client(), RELAXED);
        // Only the connection's owner says that it is open.
        let _ = self.series.set(table.hold(self.with_facts(Traffic::of)));
    }

    /// The connection lives on, and is no longer told of from here.
    pub(super) fn leave_series(&self) {
        self.flush();
        if let Some(series) = self.series.get() {
            series.release();
        }
    }

    /// The connection has ended: nothing is counted after this.
    pub(super) fn end(&self, reason: Reason) {
        self.ended.get_or_init(Instant::now);
        self.flush();
        if let Some(series) = self.series.get() {
            series.count_closed(reason);
        }
    }

    /// Tells the metrics what has gone over since they were last told. Two threads may do so at once: each adds what it
    /// was the one to advance.
    pub(super) fn flush(&self) {
        let Some(series) = self.series.get() else { return };
        let advance = |told: &AtomicU64, now: u64| now.saturating_sub(told.fetch_max(now, RELAXED));
        series.count_received(advance(&self.told_to_server, self.counters.to_server()));
        series.count_sent(advance(&self.told_to_client, self.counters.to_client()));
    }
}

/// How many connections that ended are remembered, for each worker.
pub const ENDED_KEPT: usize = 256;

/// A connection that ended a while ago.
#[derive(Clone, Debug)]
pub struct Ended {
    /// The connection.
    pub connection: Arc<Live>,
    /// Why.
    pub reason: Reason,
    /// When.
    pub at: SystemTime,
    /// Whether it was ever admitted.
    pub opened: bool,
}

#[derive(Debug, Default)]
struct Shard {
    next: u64,
    live: FxHashMap<u64, Arc<Live>>,
    ended: VecDeque<Ended>,
}

impl Shard {
    /// An id for a new connection of shard number `own`.
    fn next_id(&mut self, own: usize) -> u64 {
        self.next += 1;
        (self.next << SHARD_BITS) | own as u64
    }

    /// Adds to those that ended last, and answers whom there is no room for any more.
    fn remember(&mut self, ended: Ended) -> Option<Ended> {
        let oldest = if self.ended.len() >= ENDED_KEPT { self.ended.pop_front() } else { None };
        self.ended.push_back(ended);
        oldest
    }
}

/// Every connection that lives now.
#[derive(Debug)]
pub struct Connections {
    shards: Box<[Mutex<Shard>]>,
}

impl Connections {
    /// A table of `shards` shards, at most 256.
    pub fn new(shards: usize) -> Self {
        let shards = shards.clamp(1, 1 << SHARD_BITS);
        Self { shards: (0..shards).map(|_| Mutex::default()).collect() }
    }

    /// How many shards it has.
    pub fn shards(&self) -> usize {
        self.shards.len()
    }

    /// How many connections live now.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|s| locked(s).live.len()).sum()
    }

    /// Whether none lives now.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The connection of this number.
    pub fn get(&self, id: u64) -> Option<Arc<Live>> {
        locked(self.shard(id)?).live.get(&id).cloned()
    }

    /// Every connection that lives at this moment, oldest first within a worker. No lock is held afterwards.
    pub fn snapshot(&self) -> Vec<Arc<Live>> {
        let mut all = Vec::new();
        for shard in &self.shards {
            let from = all.len();
            all.extend(locked(shard).live.values().cloned());
            all[from..].sort_unstable_by_key(|c: &Arc<Live>| c.id);
        }
        all
    }

    /// Asks everything that a proxy carries to close, as the time of its drain is over; how many were asked.
    pub fn close_drained(&self) -> usize {
        self.close_where(|facts| (facts.path != Path::Direct).then_some(Reason::Drained))
    }

    /// Asks every connection to close for which `verdict` gives a reason; how many were asked. This is what follows a
    /// change of policies: `verdict` decides anew with the newest snapshot.
    pub fn close_where(&self, mut verdict: impl FnMut(&Facts) -> Option<Reason>) -> usize {
        let mut asked = 0;
        self.for_each(|c| {
            if let Some(reason) = c.with_facts(&mut verdict)
                && c.close(reason)
            {
                asked += 1;
            }
        });
        asked
    }

    /// Calls `each` for every connection, one shard's list at a time.
    pub fn for_each(&self, mut each: impl FnMut(&Arc<Live>)) {
        let mut some = Vec::new();
        for shard in &self.shards {
            some.extend(locked(shard).live.values().cloned());
            some.drain(..).for_each(|c| each(&c));
        }
    }

    pub(super) fn insert(&self, shard: usize, facts: Facts, started: Instant) -> Arc<Live> {
        let mut locked = locked(&self.shards[shard]);
        let id = locked.next_id(shard);
        let live = Arc::new(Live::new(id, facts, started));
        locked.live.insert(id, live.clone());
        live
    }

    /// The connections that ended last, in the order in which they ended within a worker.
    pub fn ended(&self) -> Vec<Ended> {
        self.shards.iter().flat_map(|s| locked(s).ended.iter().cloned().collect::<Vec<_>>()).collect()
    }

    pub(super) fn remove(&self, ended: Ended) {
        let Some(shard) = self.shard(ended.connection.id) else { return };
        let mut shard = locked(shard);
        let _listed = shard.live.remove(&ended.connection.id);
        let _oldest = shard.remember(ended);
        // What left the shard is dropped only after the lock.
        drop(shard);
    }

    /// Puts a connection among those that ended last that was never in the table.
    pub(super) fn remember(&self, shard: usize, facts: Facts, brief: &Brief) {
        let now = Instant::now();
        let mut held = locked(&self.shards[shard]);
        let live = Live::new(held.next_id(shard), facts, now.checked_sub(brief.duration).unwrap_or(now));
        live.counters.set_totals(brief.to_server, brief.to_client);
        live.counters.set_tcp(brief.rtt_micros, brief.retransmits);
        live.ended.get_or_init(|| now);
        let connection = Arc::new(live);
        let ended = Ended { connection, reason: brief.reason, at: brief.ended, opened: true };
        let _oldest = held.remember(ended);
        drop(held);
    }

    /// Takes a connection out that has not ended.
    pub(super) fn forget(&self, id: u64) {
        let forgotten = self.shard(id).and_then(|shard| locked(shard).live.remove(&id));
        drop(forgotten);
    }

    fn shard(&self, id: u64) -> Option<&Mutex<Shard>> {
        self.shards.get((id & ((1 << SHARD_BITS) - 1)) as usize)
    }
}

fn locked(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}
