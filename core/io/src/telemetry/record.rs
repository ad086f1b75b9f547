//! The record: one value per connection, from its acceptance to its end.

use super::{Live, Telemetry};
use serde::Serialize;
use std::{
    net::SocketAddr,
    num::NonZero,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
};
use weft_model::{Identity, PolicyKey, Reason, Workload, snapshot::ServiceEntry};

/// Counters are read for display and metrics only: nothing is ordered by them.
pub(super) const RELAXED: Ordering = Ordering::Relaxed;

/// Which side of a connection this proxy speaks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// The server's: the connection comes in to a local workload.
    Inbound,
    /// The client's: a local workload opened it.
    Outbound,
}

impl Direction {
    /// The word of the access log and the CLI.
    pub fn as_str(self) -> &'static str {
        match self {
            Direction::Inbound => "inbound",
            Direction::Outbound => "outbound",
        }
    }

    /// The value of Istio's `reporter` label.
    pub fn reporter(self) -> &'static str {
        match self {
            Direction::Inbound => "destination",
            Direction::Outbound => "source",
        }
    }
}

/// How a connection's bytes travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Path {
    /// Within the node, joined by the kernel: no proxy sees the bytes.
    Direct,
    /// Through an HBONE tunnel.
    Tunnel,
    /// Through this proxy as plain TCP, to or from a peer that the mesh knows.
    Plain,
    /// As plain TCP, to or from somewhere that the mesh does not know: through this proxy, or past it by the kernel.
    Passthrough,
}

impl Path {
    /// Every path.
    pub const ALL: [Path; 4] = [Path::Direct, Path::Tunnel, Path::Plain, Path::Passthrough];

    /// The word of metrics, logs and the CLI.
    pub fn as_str(self) -> &'static str {
        match self {
            Path::Direct => "direct",
            Path::Tunnel => "tunnel",
            Path::Plain => "plain",
            Path::Passthrough => "passthrough",
        }
    }
}

/// The value of Istio's `connection_security_policy` label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Security {
    /// Both sides were authenticated by TLS.
    MutualTls,
    /// Anything else.
    Unknown,
}

impl Security {
    /// The label's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Security::MutualTls => "mutual_tls",
            Security::Unknown => "unknown",
        }
    }
}

/// What is known of a connection. It starts with addresses and grows while the connection is classified.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Whose side this proxy is on.
    pub direction: Direction,
    /// How the bytes travel.
    pub path: Path,
    /// The client's address.
    pub source_addr: SocketAddr,
    /// The client's workload, where it is known.
    pub source: Option<Arc<Workload>>,
    /// The client's identity: authenticated by TLS, or by the kernel for a client on this node.
    pub source_identity: Option<Identity>,
    /// Where the client wanted to go, until an endpoint is chosen; the endpoint's address from then on.
    pub destination_addr: SocketAddr,
    /// The server's workload, where it is known.
    pub destination: Option<Arc<Workload>>,
    /// The server's identity, under the same condition as the client's.
    pub destination_identity: Option<Identity>,
    /// The service that the client addressed, if any.
    pub service: Option<Arc<ServiceEntry>>,
    /// Where the tunnel's TCP connection goes, or came in.
    pub hbone_addr: Option<SocketAddr>,
    /// The policy that allowed or refused the connection.
    pub policy: Option<PolicyKey>,
    /// The trace that the connection belongs to, as its `traceparent` says: the same at both proxies.
    pub trace: Option<NonZero<u128>>,
}

impl Facts {
    /// What is known when a connection has just been accepted.
    pub fn new(direction: Direction, source_addr: SocketAddr, destination_addr: SocketAddr) -> Self {
        Self {
            direction,
            path: Path::Passthrough,
            source_addr,
            source: None,
            source_identity: None,
            destination_addr,
            destination: None,
            destination_identity: None,
            service: None,
            hbone_addr: None,
            policy: None,
            trace: None,
        }
    }

    /// What protects the bytes on the wire. A direct connection is not encrypted: it does not touch a wire.
    pub fn security(&self) -> Security {
        match self.path {
            Path::Tunnel => Security::MutualTls,
            Path::Direct | Path::Plain | Path::Passthrough => Security::Unknown,
        }
    }
}

/// A connection's counters: one writer (the relay, or the reader of kernel events), any number of readers.
#[derive(Debug, Default)]
pub struct Counters {
    to_server: AtomicU64,
    to_client: AtomicU64,
    rtt_micros: AtomicU32,
    retransmits: AtomicU32,
}

impl Counters {
    /// `bytes` more went from the client to the server.
    pub fn add_to_server(&self, bytes: u64) {
        self.to_server.fetch_add(bytes, RELAXED);
    }

    /// `bytes` more went from the server to the client.
    pub fn add_to_client(&self, bytes: u64) {
        self.to_client.fetch_add(bytes, RELAXED);
    }

    /// Sets the totals, as the kernel counted them. Totals never go back: a smaller one is ignored.
    pub fn set_totals(&self, to_server: u64, to_client: u64) {
        self.to_server.fetch_max(to_server, RELAXED);
        self.to_client.fetch_max(to_client, RELAXED);
    }

    /// Sets what TCP itself tells: the smoothed round trip in microseconds, and segments sent again so far.
    pub fn set_tcp(&self, rtt_micros: u32, retransmits: u32) {
        self.rtt_micros.store(rtt_micros, RELAXED);
        self.retransmits.store(retransmits, RELAXED);
    }

    /// Bytes from the client to the server so far.
    pub fn to_server(&self) -> u64 {
        self.to_server.load(RELAXED)
    }

    /// Bytes from the server to the client so far.
    pub fn to_client(&self) -> u64 {
        self.to_client.load(RELAXED)
    }

    /// The smoothed round trip in microseconds; 0 where nobody measured it.
    pub fn rtt_micros(&self) -> u32 {
        self.rtt_micros.load(RELAXED)
    }

    /// Segments sent again so far; 0 where nobody counts them.
    pub fn retransmits(&self) -> u32 {
        self.retransmits.load(RELAXED)
    }
}

/// One connection's record. Its owner says what it learns and how the connection ends; dropping it ends it.
///
/// The record is in the table of live connections from its first moment. Metrics count the connection as opened with
/// [`Record::open`], or at its end when it never got that far.
#[derive(Debug)]
pub struct Record {
    telemetry: Arc<Telemetry>,
    live: Arc<Live>,
    reason: Option<Reason>,
    left: bool,
}

impl Record {
    pub(super) fn new(telemetry: Arc<Telemetry>, live: Arc<Live>) -> Self {
        Self { telemetry, live, reason: None, left: false }
    }

    /// Adds to what is known. What is said after [`Record::open`] reaches the table and the log, not the metrics: they
    /// have counted the connection under what was known then.
    pub fn update(&self, change: impl FnOnce(&mut Facts)) {
        self.live.update(change);
    }

    /// The connection is admitted and its peer chosen: from here on it counts as opened.
    pub fn open(&self) {
        self.telemetry.opened(&self.live);
    }

    /// The connection was opened before this process began, and counted by the one before it: here it does not count as
    /// opened again, nor do the bytes that its counters hold by now. What goes over it from here on does.
    pub fn adopt(&self) {
        self.live.adopt_series(&self.telemetry.metrics.series);
    }

    /// The connection lives on and this process tells no more of it: no end is counted or logged.
    pub fn leave(mut self) {
        self.left = true;
    }

    /// The connection's entry in the table. A relay that outlives this call keeps the `Arc` and writes its counters.
    pub fn live(&self) -> &Arc<Live> {
        &self.live
    }

    /// Where the relay counts bytes.
    pub fn counters(&self) -> &Counters {
        &self.live.counters
    }

    /// Resolves when somebody (a policy change, the CLI, the drain) wants the connection closed, with why.
    pub async fn close_requested(&self) -> Reason {
        self.live.close_requested().await
    }

    /// Sets how the connection ends, if it ends now; what is said last holds.
    pub fn set_reason(&mut self, reason: Reason) {
        self.reason = Some(reason);
    }

    /// Ends the connection for `reason`.
    pub fn finish(mut self, reason: Reason) {
        self.reason = Some(reason);
    }
}

impl Drop for Record {
    /// Without a word from the owner, a connection that was asked to close ended for that; any other was dropped by a
    /// fault of this proxy.
    fn drop(&mut self) {
        if self.left {
            return self.telemetry.left(&self.live);
        }
        let reason = self.reason.or(self.live.requested()).unwrap_or(Reason::Internal);
        self.telemetry.finished(&self.live, reason);
    }
}
