//! What a proxy tells about its traffic: one [`Record`] a connection, and from it the metrics, the access log, the table
//! of live connections and the stream of flows.

pub mod access_log;
pub mod brief;
pub mod connections;
pub mod flow;
pub mod meter;
pub mod metrics;
pub mod record;
pub mod series;
pub mod trace;

pub use access_log::{AccessLog, AccessLogConfig, Format, Select};
pub use brief::{Brief, Briefs, Template};
pub use connections::{Connections, ENDED_KEPT, Ended, Live};
pub use flow::{Flow, FlowEvent, FlowHub};
pub use meter::RelayMeter;
pub use metrics::{CONTENT_TYPE, Metrics};
pub use record::{Counters, Direction, Facts, Path, Record, Security};

use std::{
    sync::{Arc, atomic::AtomicU64},
    time::{Instant, SystemTime},
};
use weft_model::Reason;

/// How telemetry is kept.
#[derive(Clone, Debug)]
pub struct Config {
    /// The number of workers that make records; the table of live connections has a shard for each, and one more for
    /// records that other threads make.
    pub workers: usize,
    /// The most label sets that the `istio_tcp_*` families keep; what is beyond is counted in an overflow series.
    pub max_series: usize,
    /// How many flow events a slow reader of the flow stream may lag behind before it loses some.
    pub flow_backlog: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { workers: 1, max_series: 10_000, flow_backlog: 4096 }
    }
}

/// Everything that the records of a process feed. Made once; workers hold it behind an `Arc`.
#[derive(Debug)]
pub struct Telemetry {
    /// The metric families.
    pub metrics: Metrics,
    /// The connections that live now.
    pub connections: Arc<Connections>,
    /// The access log.
    pub access_log: AccessLog,
    /// Openings, ends and refusals as they happen.
    pub flows: FlowHub,
    /// Connections that ended as the time of a drain was over, by direction.
    cut: [AtomicU64; 2],
}

impl Telemetry {
    /// Telemetry that writes its access log to `access_log`.
    pub fn new(config: &Config, access_log: AccessLog) -> Arc<Self> {
        Arc::new(Self {
            metrics: Metrics::new(config.max_series),
            connections: Arc::new(Connections::new(config.workers + 1)),
            access_log,
            flows: FlowHub::new(config.flow_backlog),
            cut: <_>::default(),
        })
    }

    /// What worker number `worker` makes its records with. Numbers beyond those configured share the last shard, which
    /// is meant for threads that are no worker (the reader of kernel events).
    pub fn worker(self: &Arc<Self>, worker: usize) -> Worker {
        let shard = worker.min(self.connections.shards() - 1);
        Worker { telemetry: self.clone(), shard }
    }

    /// The metrics as OpenMetrics text, to be served as [`CONTENT_TYPE`]. Bytes of connections that still live count.
    pub fn scrape(&self) -> String {
        let mut live = metrics::ActiveCounts::default();
        self.connections.for_each(|c| {
            c.flush();
            c.with_facts(|f| live.count(f.direction, f.path));
        });
        self.metrics.set_active(&live);
        self.metrics.access_log_dropped.inner().store(self.access_log.dropped(), record::RELAXED);
        self.metrics.flow_stream_dropped().inner().store(self.flows.dropped(), record::RELAXED);
        self.metrics.encode()
    }

    /// How many connections of a direction ended as the time of a drain was over.
    pub fn cut_by_drain(&self, direction: Direction) -> u64 {
        self.cut[direction as usize].load(record::RELAXED)
    }

    /// Counts `connection` as opened, once.
    fn opened(&self, connection: &Arc<Live>) -> bool {
        let first = connection.join_series(&self.metrics.series);
        if first {
            self.flows.publish(FlowEvent::Open, connection, None);
        }
        first
    }

    /// `connection` lives on, but not in this table: nothing has happened to it that could be told.
    fn left(&self, connection: &Live) {
        connection.leave_series();
        self.connections.forget(connection.id);
    }

    /// The end of `connection`, told everywhere.
    fn finished(&self, connection: &Arc<Live>, reason: Reason) {
        let never_opened = connection.join_series(&self.metrics.series);
        connection.end(reason);
        if reason == Reason::Drained {
            connection.with_facts(|facts| self.cut[facts.direction as usize].fetch_add(1, record::RELAXED));
        }
        let at = SystemTime::now();
        self.connections.remove(Ended { connection: connection.clone(), reason, at, opened: !never_opened });
        self.access_log.write(connection, reason);
        let event = if never_opened { FlowEvent::Refused } else { FlowEvent::Close };
        self.flows.publish(event, connection, Some(reason));
    }
}

/// One worker's way to make records.
#[derive(Clone, Debug)]
pub struct Worker {
    telemetry: Arc<Telemetry>,
    shard: usize,
}

impl Worker {
    /// Begins the record of a connection that was accepted just now.
    pub fn record(&self, facts: Facts) -> Record {
        self.record_since(facts, Instant::now())
    }

    /// Begins the record of a connection that began at `started`: one that the kernel saw before this process did.
    pub fn record_since(&self, facts: Facts, started: Instant) -> Record {
        let live = self.telemetry.connections.insert(self.shard, facts, started);
        Record::new(self.telemetry.clone(), live)
    }

    /// What this worker's records feed.
    pub fn telemetry(&self) -> &Arc<Telemetry> {
        &self.telemetry
    }
}

#[cfg(test)]
mod tests;
