//! What must be worked out anew.
//!
//! Whole namespaces and nodes are only noted; their pods are looked for once, when all changes are in: a cluster's start
//! brings thousands of each.

use super::{Index, within};
use crate::{endpoints::Touched, facts::Key};
use std::{
    collections::{BTreeSet, HashSet},
    mem,
    net::IpAddr,
};

/// What is marked.
#[derive(Debug, Default)]
pub(super) struct Dirty {
    pub(super) pods: BTreeSet<Key>,
    pub(super) bare: BTreeSet<(String, IpAddr)>,
    pub(super) services: BTreeSet<Key>,
    pub(super) policies: BTreeSet<Key>,
    pub(super) peers: bool,
    /// Every pod.
    everywhere: bool,
    /// All pods of these.
    namespaces: BTreeSet<String>,
    /// All pods on these.
    nodes: HashSet<String>,
}

impl Dirty {
    pub(super) fn touch(&mut self, touched: Touched) {
        self.services.extend(touched.services);
        self.pods.extend(touched.pods);
        self.bare.extend(touched.bare);
    }
}

impl Index {
    /// Marks the pods that a policy of `namespace` may concern.
    pub(super) fn mark_scope(&mut self, namespace: &str) {
        if namespace == self.config.root_namespace {
            self.dirty.everywhere = true;
        } else {
            self.mark_pods_of(namespace);
        }
    }

    pub(super) fn mark_pods_of(&mut self, namespace: &str) {
        if !self.dirty.namespaces.contains(namespace) {
            self.dirty.namespaces.insert(namespace.to_owned());
        }
    }

    pub(super) fn mark_pods_on(&mut self, node: &str) {
        self.dirty.nodes.insert(node.to_owned());
        self.dirty.bare.extend(self.endpoints.bare_on(node));
    }

    /// Finds the pods of what is noted.
    pub(super) fn mark_noted(&mut self) {
        let (namespaces, nodes) = (mem::take(&mut self.dirty.namespaces), mem::take(&mut self.dirty.nodes));
        if mem::take(&mut self.dirty.everywhere) {
            self.dirty.pods.extend(self.pods.keys().cloned());
            return;
        }
        for namespace in &namespaces {
            self.dirty.pods.extend(within(&self.pods, namespace).map(|(key, _)| key.clone()));
        }
        if !nodes.is_empty() {
            let there = self.pods.iter().filter(|(_, pod)| nodes.contains(&pod.node));
            self.dirty.pods.extend(there.map(|(key, _)| key.clone()));
        }
    }
}
