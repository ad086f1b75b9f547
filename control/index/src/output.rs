//! What was told so far, so that only what changed is told again.

use crate::facts::Key;
use rustc_hash::FxHashMap;
use weft_model::{Delta, NodePod, Policy, PolicyKey, Service, ServiceKey, Workload, WorkloadUid};

/// Everything told so far, and what is to be told next.
#[derive(Debug, Default)]
pub(crate) struct Output {
    workloads: FxHashMap<WorkloadUid, Workload>,
    services: FxHashMap<ServiceKey, Service>,
    policies: FxHashMap<PolicyKey, Policy>,
    /// By the pod's key: another pod of the same name takes its place.
    node_pods: FxHashMap<Key, NodePod>,
    /// How many workloads stand behind a service.
    behind: FxHashMap<ServiceKey, usize>,
    /// How many workloads a policy's selector picks.
    selected: FxHashMap<PolicyKey, usize>,
    deltas: Vec<Delta>,
}

impl Output {
    /// What is to be told; it counts as told from now on.
    pub(crate) fn take(&mut self) -> Vec<Delta> {
        std::mem::take(&mut self.deltas)
    }

    /// How many workloads stand behind a service.
    pub(crate) fn endpoints(&self, service: &ServiceKey) -> usize {
        self.behind.get(service).copied().unwrap_or_default()
    }

    /// How many workloads a policy's selector picks.
    pub(crate) fn selected(&self, policy: &PolicyKey) -> usize {
        self.selected.get(policy).copied().unwrap_or_default()
    }

    /// Whether a workload takes part in the mesh.
    pub(crate) fn is_meshed(&self, uid: &WorkloadUid) -> bool {
        self.workloads.get(uid).is_some_and(Workload::is_meshed)
    }

    pub(crate) fn policy(&mut self, key: &PolicyKey, new: Option<Policy>) {
        match new {
            Some(new) if self.policies.get(key) == Some(&new) => {}
            Some(new) => {
                self.policies.insert(key.clone(), new.clone());
                self.deltas.push(Delta::Policy(new));
            }
            None if self.policies.remove(key).is_some() => self.deltas.push(Delta::PolicyGone(key.clone())),
            None => {}
        }
    }

    pub(crate) fn service(&mut self, key: &ServiceKey, new: Option<Service>) {
        match new {
            Some(new) if self.services.get(key) == Some(&new) => {}
            Some(new) => {
                self.services.insert(key.clone(), new.clone());
                self.deltas.push(Delta::Service(new));
            }
            None if self.services.remove(key).is_some() => self.deltas.push(Delta::ServiceGone(key.clone())),
            None => {}
        }
    }

    pub(crate) fn node_pod(&mut self, key: &Key, new: Option<NodePod>) {
        if self.node_pods.get(key) == new.as_ref() {
            return;
        }
        let old = self.node_pods.remove(key);
        let uid = new.as_ref().map(|p| &p.uid);
        self.deltas.extend(old.filter(|o| Some(&o.uid) != uid).map(|o| Delta::NodePodGone(o.uid)));
        if let Some(new) = new {
            self.deltas.push(Delta::NodePod(new.clone()));
            self.node_pods.insert(key.clone(), new);
        }
    }

    pub(crate) fn workload(&mut self, uid: &WorkloadUid, new: Option<Workload>) {
        let old = self.workloads.remove(uid);
        if let Some(old) = &old {
            old.services.keys().for_each(|k| count(&mut self.behind, k, false));
            old.policies.iter().for_each(|k| count(&mut self.selected, k, false));
        }
        let Some(new) = new else {
            if old.is_some() {
                self.deltas.push(Delta::WorkloadGone(uid.clone()));
            }
            return;
        };
        new.services.keys().for_each(|k| count(&mut self.behind, k, true));
        new.policies.iter().for_each(|k| count(&mut self.selected, k, true));
        if old.as_ref() != Some(&new) {
            self.deltas.push(Delta::Workload(Box::new(new.clone())));
        }
        self.workloads.insert(uid.clone(), new);
    }
}

fn count<K: Clone + Eq + std::hash::Hash>(counts: &mut FxHashMap<K, usize>, key: &K, up: bool) {
    if up {
        *counts.entry(key.clone()).or_default() += 1;
    } else if let Some(n) = counts.get_mut(key) {
        *n -= 1;
        if *n == 0 {
            counts.remove(key);
        }
    }
}
