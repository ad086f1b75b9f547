//! The one place where metric families are defined.

use super::{
    record::{Direction, Path, RELAXED},
    series::SeriesTable,
};
use prometheus_client::{
    encoding::text,
    metrics::{counter::Counter, family::Family, gauge::Gauge, info::Info},
    registry::Registry,
};
use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use weft_model::Snapshot;

/// The content type of [`Metrics::encode`]'s text.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// How long the series of a workload stay after it is gone: longer than a scraper's usual interval and a slow restart.
pub const KEEP_GONE: Duration = Duration::from_secs(5 * 60);

/// One label and its value.
pub type Label = [(&'static str, String); 1];

/// One label whose values are words of this program.
pub type Word = [(&'static str, &'static str); 1];

/// How many connections live, by direction and path.
#[derive(Debug, Default)]
pub struct ActiveCounts([[i64; Path::ALL.len()]; 2]);

impl ActiveCounts {
    /// Counts one connection.
    pub fn count(&mut self, direction: Direction, path: Path) {
        self.0[direction as usize][path as usize] += 1;
    }
}

type Hook = Box<dyn Fn(&Metrics) + Send + Sync>;

/// Every metric family of a process.
///
/// What is counted as it happens is a `Counter` here; what is known elsewhere (the kernel's maps, certificates) is set by
/// hooks that run before each scrape.
pub struct Metrics {
    /// The `istio_tcp_*` families.
    pub series: Arc<SeriesTable>,
    /// Attempts to accept a connection that failed, and connections that were refused for a limit of this process, by
    /// `reason` (`files`, `memory`, `limit`, `other`).
    pub accept_errors: Family<Word, Counter>,
    /// TLS handshakes of tunnels that failed, by `side`: this process as the `client`, or as the `server`.
    pub tls_handshake_failures: Family<Word, Counter>,
    /// When a certificate expires, in seconds since 1970, by `identity`.
    pub certificate_expiry: Family<Label, Gauge>,
    /// Whether the discovery stream is up (1) or not (0).
    pub xds_connected: Gauge,
    /// Discovery responses received.
    pub xds_responses: Counter,
    /// Resources in them that were refused because they were malformed.
    pub xds_refusals: Counter,
    /// Entries of a kernel map, by `map`.
    pub kernel_map_entries: Family<Label, Gauge>,
    /// The most entries a kernel map takes, by `map`.
    pub kernel_map_capacity: Family<Label, Gauge>,
    /// What the kernel programs could not record, by `what`.
    pub kernel_drops: Family<Label, Counter>,
    /// Flow events lost, by `stage` (`stream`: a watcher was slow).
    pub flow_events_dropped: Family<Label, Counter>,
    /// Access log lines lost because the writer was behind.
    pub access_log_dropped: Counter,
    /// Connections that were cut when the time of a drain was over, by `direction`: of every agent of this node.
    pub drained: Family<Word, Counter>,
    /// Whether pods that are not known yet are kept from the mesh (1), or should be and are not (0), by what they are kept
    /// from (`mode`).
    pub guard_attached: Family<Word, Gauge>,
    /// Pods that run, and wait until it is known whether they are in the mesh.
    pub guard_waiting: Gauge,
    /// Connections of such pods that were refused.
    pub guard_refusals: Counter,
    /// HBONE tunnels held open, by `direction`. The streams in them are the active connections whose path is `tunnel`.
    pub tunnels: Family<Word, Gauge>,
    /// Connections that live now, by `direction` and `path`.
    active: Family<[(&'static str, &'static str); 2], Gauge>,
    series_kept: Gauge,
    series_overflowed: Counter,
    registry: Registry,
    hooks: Mutex<Vec<Arc<Hook>>>,
}

impl Metrics {
    /// Families with at most `max_series` label sets in `istio_tcp_*`.
    pub fn new(max_series: usize) -> Self {
        let mut metrics = Self {
            series: Arc::new(SeriesTable::new(max_series)),
            accept_errors: Family::default(),
            tls_handshake_failures: Family::default(),
            certificate_expiry: Family::default(),
            xds_connected: Gauge::default(),
            xds_responses: Counter::default(),
            xds_refusals: Counter::default(),
            kernel_map_entries: Family::default(),
            kernel_map_capacity: Family::default(),
            kernel_drops: Family::default(),
            flow_events_dropped: Family::default(),
            access_log_dropped: Counter::default(),
            drained: Family::default(),
            guard_attached: Family::default(),
            guard_waiting: Gauge::default(),
            guard_refusals: Counter::default(),
            tunnels: Family::default(),
            active: Family::default(),
            series_kept: Gauge::default(),
            series_overflowed: Counter::default(),
            registry: Registry::default(),
            hooks: Mutex::default(),
        };
        metrics.register();
        metrics
    }

    fn register(&mut self) {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(self.series.clone()));
        let weft = registry.sub_registry_with_prefix("weft");
        weft.register("build", "The running build", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
        weft.register("connections_active", "Connections that live now", self.active.clone());
        weft.register("accept_errors", "Connections not accepted", self.accept_errors.clone());
        weft.register(
            "tls_handshake_failures",
            "TLS handshakes that failed",
            self.tls_handshake_failures.clone(),
        );
        weft.register(
            "certificate_expiry_timestamp_seconds",
            "When a workload certificate expires",
            self.certificate_expiry.clone(),
        );
        weft.register("xds_connected", "Whether the discovery stream is up", self.xds_connected.clone());
        weft.register("xds_responses", "Discovery responses received", self.xds_responses.clone());
        weft.register("xds_refusals", "Discovery resources refused", self.xds_refusals.clone());
        weft.register("kernel_map_entries", "Entries of a kernel map", self.kernel_map_entries.clone());
        weft.register(
            "kernel_map_capacity",
            "Most entries of a kernel map",
            self.kernel_map_capacity.clone(),
        );
        weft.register("kernel_drops", "What the kernel could not record", self.kernel_drops.clone());
        weft.register("flow_events_dropped", "Flow events lost", self.flow_events_dropped.clone());
        weft.register("access_log_dropped", "Access log lines lost", self.access_log_dropped.clone());
        weft.register("drained_connections", "Connections cut at the end of a drain", self.drained.clone());
        weft.register("guard_attached", "Whether the guard is attached", self.guard_attached.clone());
        weft.register("guard_waiting_pods", "Pods that wait to be known", self.guard_waiting.clone());
        weft.register("guard_refusals", "Connections that came too early", self.guard_refusals.clone());
        weft.register("tunnels", "HBONE tunnels held open", self.tunnels.clone());
        weft.register("metric_series", "Label sets of istio_tcp families", self.series_kept.clone());
        weft.register(
            "metric_series_overflowed",
            "Connections counted in the overflow series",
            self.series_overflowed.clone(),
        );
        self.registry = registry;
    }

    /// Has `hook` set what it knows before each scrape.
    pub fn before_scrape(&self, hook: impl Fn(&Metrics) + Send + Sync + 'static) {
        self.hooks.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::new(Box::new(hook)));
    }

    /// Drops series of workloads that are gone (see [`KEEP_GONE`]). To be called about once a minute.
    pub fn expire(&self, snapshot: &Snapshot, now: Instant) -> usize {
        self.series.expire(snapshot, now, KEEP_GONE)
    }

    /// Every family as OpenMetrics text. [`Telemetry::scrape`](super::Telemetry::scrape) also counts what is under way.
    pub fn encode(&self) -> String {
        let hooks = self.hooks.lock().unwrap_or_else(PoisonError::into_inner).clone();
        hooks.iter().for_each(|hook| hook(self));
        self.series_kept.set(self.series.len() as i64);
        self.series_overflowed.inner().store(self.series.overflowed(), RELAXED);
        let mut out = String::new();
        // Writing to a String cannot fail, and no family here encodes with an error of its own.
        if text::encode(&mut out, &self.registry).is_err() {
            tracing::error!("the metrics could not be encoded");
        }
        out
    }

    /// The reason of [`Metrics::accept_failed`] for a limit that the configuration sets.
    pub const LIMIT: &str = "limit";

    /// How often connections were not accepted, or not carried on, for want of something: what, and the count.
    pub fn shortages(&self) -> [(&'static str, u64); 3] {
        [
            ("files", "attempts at connections for want of files"),
            ("memory", "attempts at connections for want of memory"),
            (Self::LIMIT, "connections beyond maxConnections"),
        ]
        .map(|(reason, what)| (what, self.accept_errors.get_or_create(&[("reason", reason)]).get()))
    }

    /// Counts an attempt to accept a connection that failed for `reason`.
    pub fn accept_failed(&self, reason: &'static str) {
        self.accept_errors.get_or_create(&[("reason", reason)]).inc();
    }

    /// Where the failed handshakes of one side are counted.
    pub fn tls_failures(&self, side: &'static str) -> Counter {
        self.tls_handshake_failures.get_or_create_owned(&[("side", side)])
    }

    /// Where the tunnels of one direction are counted.
    pub fn tunnels_held(&self, direction: Direction) -> Gauge {
        self.tunnels.get_or_create_owned(&[("direction", direction.as_str())])
    }

    pub(super) fn set_active(&self, counts: &ActiveCounts) {
        for direction in [Direction::Inbound, Direction::Outbound] {
            for path in Path::ALL {
                let labels = [("direction", direction.as_str()), ("path", path.as_str())];
                let count = counts.0[direction as usize][path as usize];
                self.active.get_or_create(&labels).set(count);
            }
        }
    }

    pub(super) fn flow_stream_dropped(&self) -> Counter {
        self.flow_events_dropped.get_or_create_owned(&[("stage", "stream".to_owned())])
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").field("series", &self.series.len()).finish_non_exhaustive()
    }
}
