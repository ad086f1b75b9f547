//! The `istio_tcp_*` series: one per set of labels, found once per connection and held by it.
//!
//! The set is bounded: what comes beyond the bound is counted in series whose labels say `overflow`. Series of workloads
//! that left the mesh go after a while, once no connection holds them.

use super::record::{Direction, Facts, RELAXED, Security};
use prometheus_client::{
    collector::Collector,
    encoding::{
        DescriptorEncoder, EncodeLabelSet, EncodeLabelValue, EncodeMetric, LabelSetEncoder, LabelValueEncoder,
    },
    metrics::{MetricType, counter::ConstCounter},
};
use rustc_hash::{FxHashMap, FxHashSet};
use std::{
    fmt::{self, Write},
    sync::{Arc, PoisonError, RwLock, atomic::AtomicU64},
    time::{Duration, Instant},
};
use weft_model::{Identity, Name, Reason, Snapshot, Workload};

/// The values of `response_flags`.
pub const RESPONSE_FLAGS: [&str; 5] = ["-", "DENY", "CONNECT", "TLS_FAILURE", "ERROR"];

/// What the labels of the overflow series say.
const OVERFLOW: &str = "overflow";

/// The names of one end of a connection, as Istio's labels have them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Named {
    workload: Name,
    namespace: Name,
    canonical_service: Name,
    canonical_revision: Name,
    cluster: Name,
}

impl Named {
    fn of(w: &Workload) -> Self {
        Self {
            workload: w.workload_name.clone(),
            namespace: w.namespace.clone(),
            canonical_service: w.canonical_name.clone(),
            canonical_revision: w.canonical_revision.clone(),
            cluster: w.cluster.clone(),
        }
    }
}

/// One end of a connection: a workload that the mesh knows, an authenticated identity, both or neither.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct End {
    named: Option<Named>,
    principal: Option<Identity>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct ServiceLabels {
    hostname: Name,
    namespace: Name,
    name: Name,
}

/// The labels of a series but for `response_flags`, as shared names: making one allocates nothing.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Traffic {
    reporter: Direction,
    security: Security,
    source: End,
    destination: End,
    service: Option<ServiceLabels>,
}

impl Traffic {
    /// The labels of the connection with these facts.
    pub fn of(facts: &Facts) -> Self {
        let end = |workload: &Option<Arc<Workload>>, principal: &Option<Identity>| End {
            named: workload.as_deref().map(Named::of),
            principal: principal.clone(),
        };
        Self {
            reporter: facts.direction,
            security: facts.security(),
            source: end(&facts.source, &facts.source_identity),
            destination: end(&facts.destination, &facts.destination_identity),
            service: facts.service.as_deref().map(|s| ServiceLabels {
                hostname: s.service.key.hostname.clone(),
                namespace: s.service.key.namespace.clone(),
                name: s.service.name.clone(),
            }),
        }
    }

    /// The labels under which everything of this direction is counted that found no place of its own.
    fn overflow(&self) -> Self {
        let word: Name = OVERFLOW.into();
        let named = Named {
            workload: word.clone(),
            namespace: word.clone(),
            canonical_service: word.clone(),
            canonical_revision: word.clone(),
            cluster: word,
        };
        let end = End { named: Some(named), principal: None };
        Self {
            reporter: self.reporter,
            security: self.security,
            source: end.clone(),
            destination: end,
            service: None,
        }
    }

    fn is_overflow(&self) -> bool {
        self.source.named.as_ref().is_some_and(|n| &*n.workload == OVERFLOW && &*n.cluster == OVERFLOW)
    }

    /// Whether both workloads, as far as they are named, still exist.
    fn is_present(&self, present: &FxHashSet<(Name, Name)>) -> bool {
        let known = |end: &End| match &end.named {
            Some(n) => present.contains(&(n.namespace.clone(), n.workload.clone())),
            None => true,
        };
        known(&self.source) && known(&self.destination)
    }
}

/// The counters of one set of labels.
#[derive(Debug, Default)]
pub struct Series {
    /// Connections that count here and have not ended: while there are any, the series stays.
    held: AtomicU64,
    opened: AtomicU64,
    closed: [AtomicU64; RESPONSE_FLAGS.len()],
    sent: AtomicU64,
    received: AtomicU64,
}

impl Series {
    fn hold(self: &Arc<Self>) -> Arc<Self> {
        self.held.fetch_add(1, RELAXED);
        self.clone()
    }

    pub(super) fn count_opened(&self) {
        self.opened.fetch_add(1, RELAXED);
    }

    /// Counts the end of a connection that [`SeriesTable::hold`] let in.
    pub(super) fn count_closed(&self, reason: Reason) {
        self.count_end(reason);
        self.release();
    }

    /// Counts a connection from its opening to its end, with the bytes that the server received and sent.
    pub(super) fn count_brief(&self, received: u64, sent: u64, reason: Reason) {
        self.count_opened();
        self.count_received(received);
        self.count_sent(sent);
        self.count_end(reason);
    }

    fn count_end(&self, reason: Reason) {
        let flags = reason.response_flags();
        let at = RESPONSE_FLAGS.iter().position(|f| *f == flags).unwrap_or(0);
        self.closed[at].fetch_add(1, RELAXED);
    }

    /// Lets go of a connection that [`SeriesTable::hold`] let in, and that lives on.
    pub(super) fn release(&self) {
        self.held.fetch_sub(1, RELAXED);
    }

    /// Bytes that the server sent.
    pub(super) fn count_sent(&self, bytes: u64) {
        self.sent.fetch_add(bytes, RELAXED);
    }

    /// Bytes that the server received.
    pub(super) fn count_received(&self, bytes: u64) {
        self.received.fetch_add(bytes, RELAXED);
    }
}

#[derive(Debug)]
struct Kept {
    series: Arc<Series>,
    /// Since when one of its workloads is gone.
    gone_since: Option<Instant>,
}

/// Every series, and the bound on their number.
#[derive(Debug)]
pub struct SeriesTable {
    series: RwLock<FxHashMap<Traffic, Kept>>,
    max: usize,
    overflowed: AtomicU64,
}

impl SeriesTable {
    /// A table of at most `max` series, besides the few that count the overflow.
    pub fn new(max: usize) -> Self {
        Self { series: RwLock::default(), max, overflowed: AtomicU64::new(0) }
    }

    /// The series with these labels, a new one if there is room, or that of the overflow; it stays until the connection
    /// that it was taken for is counted as closed.
    pub fn hold(&self, traffic: Traffic) -> Arc<Series> {
        let found = self.series.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(kept) = found.get(&traffic) {
            return kept.series.hold();
        }
        drop(found);
        let mut all = self.series.write().unwrap_or_else(PoisonError::into_inner);
        let key = if all.len() < self.max || all.contains_key(&traffic) {
            traffic
        } else {
            self.overflowed.fetch_add(1, RELAXED);
            traffic.overflow()
        };
        let new = || Kept { series: Arc::default(), gone_since: None };
        all.entry(key).or_insert_with(new).series.hold()
    }

    /// How many series there are.
    pub fn len(&self) -> usize {
        self.series.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many connections found no series of their own.
    pub fn overflowed(&self) -> u64 {
        self.overflowed.load(RELAXED)
    }

    /// Drops the series whose source or destination has been missing from the snapshots for `keep`, as of `now`, and
    /// that no connection holds. To be called now and then; how many went is returned.
    pub fn expire(&self, snapshot: &Snapshot, now: Instant, keep: Duration) -> usize {
        let present: FxHashSet<_> =
            snapshot.workloads().map(|w| (w.namespace.clone(), w.workload_name.clone())).collect();
        let mut all = self.series.write().unwrap_or_else(PoisonError::into_inner);
        let before = all.len();
        all.retain(|traffic, kept| {
            if traffic.is_overflow() || traffic.is_present(&present) {
                kept.gone_since = None;
                return true;
            }
            let since = *kept.gone_since.get_or_insert(now);
            // Nobody can begin to hold it while the table is locked for writing.
            kept.series.held.load(RELAXED) > 0 || now.saturating_duration_since(since) < keep
        });
        before - all.len()
    }
}

/// A family's name, help, and how its samples (flags and value) are read off a series.
type Family = (&'static str, &'static str, fn(&Series, &mut dyn FnMut(&'static str, u64)));

const FAMILIES: [Family; 4] = [
    ("istio_tcp_connections_opened", "TCP connections opened", |s, sample| {
        sample("-", s.opened.load(RELAXED));
    }),
    ("istio_tcp_connections_closed", "TCP connections closed", |s, sample| {
        for (flags, closed) in RESPONSE_FLAGS.iter().zip(&s.closed) {
            let closed = closed.load(RELAXED);
            if closed > 0 {
                sample(flags, closed);
            }
        }
    }),
    ("istio_tcp_sent_bytes", "Bytes that servers sent", |s, sample| {
        sample("-", s.sent.load(RELAXED));
    }),
    ("istio_tcp_received_bytes", "Bytes that servers received", |s, sample| {
        sample("-", s.received.load(RELAXED));
    }),
];

impl Collector for SeriesTable {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let all: Vec<(Traffic, Arc<Series>)> = {
            let all = self.series.read().unwrap_or_else(PoisonError::into_inner);
            all.iter().map(|(traffic, kept)| (traffic.clone(), kept.series.clone())).collect()
        };
        for (name, help, read) in FAMILIES {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for (traffic, series) in &all {
                let mut result = Ok(());
                read(series, &mut |flags, value| {
                    let labels = Labels { traffic, flags };
                    let one = family.encode_family(&labels).and_then(|m| ConstCounter::new(value).encode(m));
                    result = result.and(one);
                });
                result?;
            }
        }
        Ok(())
    }
}

/// A series' labels as they are written out, in Istio's order.
#[derive(Debug)]
struct Labels<'a> {
    traffic: &'a Traffic,
    flags: &'static str,
}

impl EncodeLabelSet for Labels<'_> {
    fn encode(&self, out: &mut LabelSetEncoder<'_>) -> fmt::Result {
        let t = self.traffic;
        put(out, "reporter", t.reporter.reporter())?;
        let named = t.source.named.as_ref();
        put(out, "source_workload", known(named.map(|n| &n.workload)))?;
        put(out, "source_canonical_service", known(named.map(|n| &n.canonical_service)))?;
        put(out, "source_canonical_revision", known(named.map(|n| &n.canonical_revision)))?;
        put(out, "source_workload_namespace", known(named.map(|n| &n.namespace)))?;
        put(out, "source_principal", Principal(t.source.principal.as_ref()))?;
        put(out, "source_app", known(named.map(|n| &n.canonical_service)))?;
        put(out, "source_version", known(named.map(|n| &n.canonical_revision)))?;
        put(out, "source_cluster", known(named.map(|n| &n.cluster)))?;
        let service = t.service.as_ref();
        put(out, "destination_service", known(service.map(|s| &s.hostname)))?;
        put(out, "destination_service_namespace", known(service.map(|s| &s.namespace)))?;
        put(out, "destination_service_name", known(service.map(|s| &s.name)))?;
        let named = t.destination.named.as_ref();
        put(out, "destination_workload", known(named.map(|n| &n.workload)))?;
        put(out, "destination_canonical_service", known(named.map(|n| &n.canonical_service)))?;
        put(out, "destination_canonical_revision", known(named.map(|n| &n.canonical_revision)))?;
        put(out, "destination_workload_namespace", known(named.map(|n| &n.namespace)))?;
        put(out, "destination_principal", Principal(t.destination.principal.as_ref()))?;
        put(out, "destination_app", known(named.map(|n| &n.canonical_service)))?;
        put(out, "destination_version", known(named.map(|n| &n.canonical_revision)))?;
        put(out, "destination_cluster", known(named.map(|n| &n.cluster)))?;
        put(out, "request_protocol", "tcp")?;
        put(out, "response_flags", self.flags)?;
        put(out, "connection_security_policy", t.security.as_str())
    }
}

/// What Istio says where there is nothing to say.
const UNKNOWN: &str = "unknown";

fn known(name: Option<&Name>) -> &str {
    match name {
        Some(n) if !n.is_empty() => n,
        _ => UNKNOWN,
    }
}

struct Principal<'a>(Option<&'a Identity>);

impl EncodeLabelValue for Principal<'_> {
    fn encode(&self, out: &mut LabelValueEncoder<'_>) -> fmt::Result {
        match self.0 {
            Some(identity) => write!(out, "{identity}"),
            None => out.write_str(UNKNOWN),
        }
    }
}

fn put(out: &mut LabelSetEncoder<'_>, key: &str, value: impl EncodeLabelValue) -> fmt::Result {
    let mut label = out.encode_label();
    let mut key_encoder = label.encode_label_key()?;
    key_encoder.write_str(key)?;
    let mut value_encoder = key_encoder.encode_label_value()?;
    value.encode(&mut value_encoder)?;
    value_encoder.finish()
}
