//! PeerAuthentication to DENY policies, as istiod does it for ztunnel: what comes without an identity is refused.
//!
//! A workload that must see mutual TLS on all ports names one static policy. Where single ports differ, the
//! PeerAuthentication that says so becomes a policy of its own.

use crate::{
    facts::{Age, Digest, Key, is_fatal},
    finding::{Note, Severity},
    selector::Labels,
};
use std::collections::BTreeMap;
use weft_api::{
    PeerAuthentication,
    security::{MutualTls, MutualTlsMode as Mode},
};
use weft_model::{
    Policy, PolicyKey,
    policy::{Action, Clause, Match, PolicyScope, Rule, StringMatch},
};

/// Istio's names; Kubernetes allows no `_`, so no user's policy can have them.
const STATIC_STRICT: &str = "istio_converted_static_strict";
const CONVERTED: &str = "converted_peer_authentication_";

/// What matters of a PeerAuthentication.
#[derive(Clone, Debug)]
pub(crate) struct PeerFacts {
    pub key: Key,
    pub age: Age,
    /// `None` where it holds for its namespace, or, in the root namespace, for the mesh.
    pub selector: Option<Labels>,
    mode: Mode,
    ports: BTreeMap<u16, Mode>,
    /// No version of it could ever be used: it is taken to demand mutual TLS of everybody.
    pub closed: bool,
}

impl PeerFacts {
    pub(crate) fn digest(root_namespace: &str, key: Key, object: &PeerAuthentication) -> Digest<Self> {
        let mut notes = Vec::new();
        let spec = &object.spec;
        let selector = spec.selector.as_ref().map(|s| s.match_labels.clone()).filter(|l| !l.is_empty());
        if selector.is_none() && !spec.port_level_mtls.is_empty() {
            notes.push(Note::new(
                Severity::Error,
                "spec.portLevelMtls",
                "ports can be told apart only for selected workloads",
                "add spec.selector.matchLabels",
            ));
        }
        if selector.is_some() && key.0 == root_namespace {
            notes.push(Note::new(
                Severity::Error,
                "spec.selector",
                format!(
                    "in the root namespace `{root_namespace}` a PeerAuthentication holds for the whole mesh"
                ),
                "move it to the namespace of the workloads",
            ));
        }
        if is_fatal(&notes) {
            return Err(notes);
        }
        let mode = |m: &MutualTls| m.mode;
        let facts = Self {
            age: (crate::facts::created(&object.metadata), key.clone()),
            key,
            selector,
            mode: spec.mtls.as_ref().map_or(Mode::Unset, mode),
            ports: spec.port_level_mtls.iter().map(|(p, m)| (*p, mode(m))).collect(),
            closed: false,
        };
        Ok((facts, notes))
    }

    /// What stands in for one of which nothing is known but whom it is about. It counts as the oldest, so that no other
    /// opens what it closes.
    pub(crate) fn closed(key: Key, selector: &Labels) -> Self {
        let selector = Some(selector.clone()).filter(|l| !l.is_empty());
        let age = (None, key.clone());
        Self { key, age, selector, mode: Mode::Strict, ports: BTreeMap::new(), closed: true }
    }

    /// The policy for the ports on which this one differs from the rest of its workloads' ports; `None` where all
    /// ports are alike.
    pub(crate) fn policy(&self, inherited: bool) -> Option<Policy> {
        let strict = self.strict(inherited);
        let differing: Vec<u16> = self
            .ports
            .iter()
            .filter(|(_, mode)| is_strict(**mode).unwrap_or(strict) != strict)
            .map(|(port, _)| *port)
            .collect();
        if differing.is_empty() {
            return None;
        }
        let mut matched = anonymous();
        if strict {
            matched.not_destination_ports = differing;
        } else {
            matched.destination_ports = differing;
        }
        let name = format!("{CONVERTED}{}", self.key.1);
        let key = PolicyKey { namespace: self.key.0.as_str().into(), name: name.into() };
        Some(deny(key, matched))
    }

    /// Whether mutual TLS is demanded where no port says otherwise.
    pub(crate) fn strict(&self, inherited: bool) -> bool {
        is_strict(self.mode).unwrap_or(inherited)
    }
}

fn is_strict(mode: Mode) -> Option<bool> {
    match mode {
        Mode::Unset => None,
        Mode::Strict => Some(true),
        Mode::Permissive | Mode::Disable => Some(false),
    }
}

/// A match for everything that comes without an identity.
fn anonymous() -> Match {
    Match { not_principals: vec![StringMatch::Presence], ..Match::default() }
}

fn deny(key: PolicyKey, matched: Match) -> Policy {
    Policy {
        key,
        scope: PolicyScope::Selector,
        action: Action::Deny,
        dry_run: false,
        rules: vec![Rule { clauses: vec![Clause { matches: vec![matched] }] }],
    }
}

/// The policy of workloads that demand mutual TLS on every port.
pub(crate) fn static_strict(root_namespace: &str) -> Policy {
    let key = PolicyKey { namespace: root_namespace.into(), name: STATIC_STRICT.into() };
    deny(key, anonymous())
}

/// Of several that hold for the same scope, the oldest one does; the others are without effect.
pub(crate) fn oldest<'a>(peers: impl Iterator<Item = &'a PeerFacts>) -> Option<&'a PeerFacts> {
    peers.min_by(|a, b| a.age.cmp(&b.age))
}
