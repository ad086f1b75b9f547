//! The control plane's metric families: all of them stand here.

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};
use std::{collections::BTreeMap, fmt, sync::Mutex, sync::PoisonError};
use weft_index::{Finding, Severity};
use weft_io::discovery::{convert::Kind, skew::Skew};

use crate::serve::agents::Agent;

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
struct OfReason {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfSeverity {
    severity: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, EncodeLabelSet)]
struct OfVersion {
    version: String,
    skew: &'static str,
}

/// So many versions are told apart; more than two are there only during an upgrade.
const VERSIONS: usize = 16;

/// Everything that is counted.
#[derive(Debug)]
pub struct Metrics {
    registry: Mutex<Registry>,
    agents: Gauge,
    versions: Family<OfVersion, Gauge>,
    resources: Family<OfKind, Gauge>,
    sent: Family<OfKind, Counter>,
    refused: Family<OfKind, Counter>,
    certificates: Family<OfResult, Counter>,
    turned_away: Family<OfReason, Counter>,
    findings: Family<OfSeverity, Gauge>,
    batches: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("weft_control");
        let (agents, resources, sent, refused) =
            (Gauge::default(), Family::default(), Family::default(), Family::default());
        let (versions, turned_away) = (Family::default(), Family::default());
        let (certificates, findings, batches) = (Family::default(), Family::default(), Counter::default());
        registry.register("agents", "Node proxies that are connected", agents.clone());
        let help = "Node proxies that are connected, by version and how far that is from control's: supported, apart, unknown";
        registry.register("agents_by_version", help, versions.clone());
        registry.register("resources", "Resources that nodes are told of", resources.clone());
        registry.register("resources_sent", "Resources and removals sent", sent.clone());
        registry.register("responses_refused", "Responses that nodes refused in part", refused.clone());
        registry.register("certificates", "Certificate requests", certificates.clone());
        let help = "Callers that were turned away: refused, since their token is none, or unknown, since nobody could say";
        registry.register("callers_turned_away", help, turned_away.clone());
        registry.register("findings", "Objects with something wrong", findings.clone());
        registry.register("batches", "Changes of the source", batches.clone());
        Self {
            registry: Mutex::new(registry),
            agents,
            versions,
            resources,
            sent,
            refused,
            certificates,
            turned_away,
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

    /// Counts a caller that is turned away.
    pub(crate) fn turned_away(&self, reason: &'static str) {
        self.turned_away.get_or_create(&OfReason { reason }).inc();
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
    pub fn render(&self, agents: &[Agent]) -> Result<String, fmt::Error> {
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        self.agents.set(i64::try_from(agents.len()).unwrap_or(i64::MAX));
        self.versions.clear();
        for (version, count) in by_version(agents) {
            self.versions.get_or_create(&version).set(count);
        }
        let mut text = String::new();
        encode(&mut text, &registry)?;
        Ok(text)
    }
}

/// How many agents there are of each version. Versions are agents' own words, so beyond some they are not told apart.
fn by_version(agents: &[Agent]) -> BTreeMap<OfVersion, i64> {
    let mut counts = BTreeMap::new();
    for agent in agents {
        let skew = match agent.skew {
            Skew::Supported => "supported",
            Skew::Apart => "apart",
            Skew::Unknown => "unknown",
        };
        let version = OfVersion { version: agent.version.clone().unwrap_or_default(), skew };
        let is_room = counts.len() < VERSIONS || counts.contains_key(&version);
        let version = if is_room { version } else { OfVersion { version: "others".to_owned(), ..version } };
        *counts.entry(version).or_default() += 1;
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::agents::Agents;
    use std::sync::Arc;

    #[test]
    fn agents_are_counted_by_version_however_many_they_claim_to_have() {
        let (metrics, agents) = (Metrics::default(), Arc::new(Agents::default()));
        let claim = |version: &str, skew| {
            let entry = agents.enter("n".into());
            entry.note(|a| (a.version, a.skew) = (Some(version.to_owned()), skew));
            entry
        };
        let two = [claim("0.1.0", Skew::Supported), claim("0.1.0", Skew::Supported)];
        let many: Vec<_> = (0..100).map(|n| claim(&format!("{n}.0.0"), Skew::Apart)).collect();
        let text = metrics.render(&agents.list()).unwrap();
        assert!(text.contains(r#"agents_by_version{version="0.1.0",skew="supported"} 2"#), "{text}");
        let lines = text.lines().filter(|l| l.starts_with("weft_control_agents_by_version{")).count();
        assert!(lines <= VERSIONS + 1, "{lines} series");
        drop((two, many));
        let text = metrics.render(&agents.list()).unwrap();
        assert!(!text.contains("agents_by_version{"), "what is gone is not told: {text}");
    }
}
