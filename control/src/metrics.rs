//! The control plane's metric families: all of them stand here.

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};
use std::{fmt, sync::Mutex, sync::PoisonError};
use weft_index::{Finding, Severity};
use weft_io::discovery::convert::Kind;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfKind {
    kind: &'static str,
}

fn of(kind: Kind) -> OfKind {
    OfKind {
        kind: match kind {
            Kind::Address => "address",
            Kind::Authorization => "authorization",
            Kind::NodePod => "node_pod",
        },
    }
}

/// How a certificate request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum IssueResult {
    /// With a certificate.
    #[allow(missing_docs, reason = "said above")]
    Issued,
    /// Without.
    Refused,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfResult {
    result: IssueResult,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfSeverity {
    severity: &'static str,
}

/// Everything that is counted.
#[derive(Debug)]
pub struct Metrics {
    registry: Mutex<Registry>,
    agents: Gauge,
    resources: Family<OfKind, Gauge>,
    sent: Family<OfKind, Counter>,
    refused: Family<OfKind, Counter>,
    certificates: Family<OfResult, Counter>,
    findings: Family<OfSeverity, Gauge>,
    batches: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("weft_control");
        let (agents, resources, sent, refused) =
            (Gauge::default(), Family::default(), Family::default(), Family::default());
        let (certificates, findings, batches) = (Family::default(), Family::default(), Counter::default());
        registry.register("agents", "Node proxies that are connected", agents.clone());
        registry.register("resources", "Resources that nodes are told of", resources.clone());
        registry.register("resources_sent", "Resources and removals sent", sent.clone());
        registry.register("responses_refused", "Responses that nodes refused in part", refused.clone());
        registry.register("certificates", "Certificate requests", certificates.clone());
        registry.register("findings", "Objects with something wrong", findings.clone());
        registry.register("batches", "Changes of the source", batches.clone());
        Self {
            registry: Mutex::new(registry),
            agents,
            resources,
            sent,
            refused,
            certificates,
            findings,
            batches,
        }
    }
}

impl Metrics {
    /// Counts resources and removals sent to one node.
    pub fn sent(&self, kind: Kind, count: usize) {
        self.sent.get_or_create(&of(kind)).inc_by(count as u64);
    }

    /// Counts a refused response.
    pub fn refused(&self, kind: Kind) {
        self.refused.get_or_create(&of(kind)).inc();
    }

    /// Counts a certificate request.
    pub fn certificates(&self, result: IssueResult) {
        self.certificates.get_or_create(&OfResult { result }).inc();
    }

    /// Counts a batch of the source.
    pub fn batch(&self) {
        self.batches.inc();
    }

    /// Notes what there is now, and what is wrong with it.
    pub fn state(&self, resources: [(Kind, usize); Kind::ALL.len()], findings: &[Finding]) {
        for (kind, count) in resources {
            self.resources.get_or_create(&of(kind)).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        for (severity, name) in
            [(Severity::Error, "error"), (Severity::Warning, "warning"), (Severity::Info, "info")]
        {
            let count = findings.iter().filter(|f| f.severity == severity).count();
            let gauge = self.findings.get_or_create(&OfSeverity { severity: name });
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// Everything in the text form of OpenMetrics.
    pub fn render(&self, agents: usize) -> Result<String, fmt::Error> {
        self.agents.set(i64::try_from(agents).unwrap_or(i64::MAX));
        let mut text = String::new();
        encode(&mut text, &self.registry.lock().unwrap_or_else(PoisonError::into_inner))?;
        Ok(text)
    }
}
