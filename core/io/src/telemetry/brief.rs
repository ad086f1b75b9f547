//! Connections that were over before anybody could look: told in one go, without a record of their own.
//!
//! The kernel joins tens of thousands of them a second, and what they have in common (who talks to whom, the series that
//! counts them, most of the log line) is found once.

use super::{
    AccessLog, Facts, Telemetry, Worker,
    access_log::Batch,
    series::{Series, Traffic},
};
use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};
use weft_model::Reason;

/// How one of them went.
#[derive(Clone, Copy, Debug)]
pub struct Brief {
    /// The client's address.
    pub client: SocketAddr,
    /// When it ended.
    pub ended: SystemTime,
    /// How long it had lived.
    pub duration: Duration,
    /// Bytes from the client to the server.
    pub to_server: u64,
    /// Bytes from the server to the client.
    pub to_client: u64,
    /// The smoothed round trip in microseconds.
    pub rtt_micros: u32,
    /// Segments that were sent again.
    pub retransmits: u32,
    /// Why it ended.
    pub reason: Reason,
}

/// What connections have in common that differ in their client's port and in how they went.
#[derive(Debug)]
pub struct Template {
    facts: Facts,
    series: Arc<Series>,
    /// Its part of the log line.
    line: String,
}

impl Drop for Template {
    fn drop(&mut self) {
        self.series.release();
    }
}

/// Connections that are told together. Dropping it tells the rest.
#[derive(Debug)]
pub struct Briefs<'a> {
    telemetry: &'a Telemetry,
    shard: usize,
    lines: Batch<'a>,
}

impl Worker {
    /// The template of connections with these facts, whatever their client's port.
    pub fn template(&self, facts: Facts) -> Template {
        let series = self.telemetry.metrics.series.hold(Traffic::of(&facts));
        Template { series, line: AccessLog::common(&facts), facts }
    }

    /// Begins to tell of connections that are over. Who watches the flows is told of records alone: see
    /// [`super::FlowHub::is_watched`].
    pub fn briefs(&self) -> Briefs<'_> {
        let telemetry = &self.telemetry;
        Briefs { telemetry, shard: self.shard, lines: telemetry.access_log.batch() }
    }
}

impl Briefs<'_> {
    /// Counts and logs one connection; with `remember` it is also among those that ended last.
    pub fn tell(&mut self, template: &Template, brief: &Brief, remember: bool) {
        template.series.count_brief(brief.to_server, brief.to_client, brief.reason);
        self.lines.push(&template.facts, &template.line, brief);
        if remember {
            let facts = Facts { source_addr: brief.client, ..template.facts.clone() };
            self.telemetry.connections.remember(self.shard, facts, brief);
        }
    }
}
