//! Kubernetes objects to model deltas: a pure fold, without I/O.
//!
//! Objects go in one by one or in bulk; out come the deltas that bring a node's snapshot up to date, and findings about
//! objects that are wrong. An object that is wrong changes nothing else: its last good version stays in force.
#![forbid(unsafe_code)]

mod authorization;
mod claims;
mod endpoints;
mod externals;
mod facts;
pub mod finding;
mod fold;
mod mesh;
mod others;
mod output;
mod peer;
mod selector;
mod workload;

pub use finding::{Finding, Severity};
pub use fold::{Change, Index};

/// What the fold needs to know besides the objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexConfig {
    /// The trust domain of every identity.
    pub trust_domain: String,
    /// The cluster's name.
    pub cluster: String,
    /// The network of addresses that no label places elsewhere.
    pub network: String,
    /// The cluster's DNS domain.
    pub domain: String,
    /// Policies in this namespace without a selector hold for the whole mesh. There is one such namespace: whoever comes
    /// from Istio and keeps mesh-wide policies in `istio-system` names that one here.
    pub root_namespace: String,
}

impl Default for IndexConfig {
    fn default() -> Self {
        Self {
            trust_domain: "cluster.local".into(),
            cluster: "Kubernetes".into(),
            network: String::new(),
            domain: "cluster.local".into(),
            root_namespace: "weft-system".into(),
        }
    }
}
