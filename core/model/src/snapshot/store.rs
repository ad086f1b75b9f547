//! The one place where snapshots are made: a single writer applies deltas, readers load the newest snapshot.

use super::{
    Endpoint, Endpoints, PolicySet, ServiceEntry, Shared, Snapshot, Viewpoint,
    keys::{ByAddress, ByPod, ByUid, Pod, Uid},
};
use crate::{
    Delta, Name, NetworkAddress, NodePod, Policy, PolicyKey, Service, ServiceKey, Workload, WorkloadUid,
    policy::{Action, PolicyIndex, PolicyScope, Rule},
    workload::Locality,
};
use arc_swap::ArcSwap;
use rustc_hash::{FxHashMap, FxHashSet};
use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

/// What a batch of deltas changed, for those who keep something derived from snapshots (kernel maps, live connections).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changed {
    /// The version of the snapshot that holds the change.
    pub version: u64,
    /// Workloads that are new, different or gone.
    pub workloads: FxHashSet<WorkloadUid>,
    /// Services that are new, different or gone, or whose endpoints changed.
    pub services: FxHashSet<ServiceKey>,
    /// Policies that are new, different or gone.
    pub policies: FxHashSet<PolicyKey>,
    /// Pods of the node that are new, different or gone, by uid.
    pub node_pods: FxHashSet<Name>,
}

impl Changed {
    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.workloads.is_empty()
            && self.services.is_empty()
            && self.policies.is_empty()
            && self.node_pods.is_empty()
    }
}

/// Holds the newest snapshot. Reading takes no lock.
#[derive(Debug, Default)]
pub struct SnapshotStore {
    current: ArcSwap<Snapshot>,
    writer: Mutex<Writer>,
}

/// What only the writer needs: reverse relations, and names that are stored once.
#[derive(Debug, Default)]
struct Writer {
    viewpoint: Viewpoint,
    /// The node's, as the workloads on it have it.
    locality: Option<Locality>,
    /// Who stands behind a service, also one that is not known yet.
    behind: FxHashMap<ServiceKey, BTreeSet<WorkloadUid>>,
    /// The policies of a namespace that hold for all of it (the key "" stands for the global ones).
    scoped: FxHashMap<(PolicyScope, Name), BTreeSet<PolicyKey>>,
    /// Policies that were taken away while workloads still name them.
    retired: FxHashSet<PolicyKey>,
    /// How many workloads share a list of selected policies.
    selections: FxHashMap<Arc<[PolicyKey]>, usize>,
    shared: Shared,
}

impl SnapshotStore {
    /// An empty store, for a reader at `viewpoint`.
    pub fn new(viewpoint: Viewpoint) -> Self {
        let writer = Writer { viewpoint, ..Writer::default() };
        Self { current: ArcSwap::default(), writer: Mutex::new(writer) }
    }

    /// The newest snapshot. Cheap enough for every connection.
    pub fn load(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// Applies `deltas` as one step and publishes the result; readers see all of it or nothing.
    pub fn apply(&self, deltas: Vec<Delta>) -> Changed {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = Snapshot::clone(&self.current.load());
        let mut step = Step { writer: &mut writer, next: &mut next, changed: Changed::default() };
        for delta in deltas {
            step.apply(delta);
        }
        let mut changed = step.finish();
        if !changed.is_empty() {
            next.version += 1;
            changed.version = next.version;
            self.current.store(Arc::new(next));
        } else {
            changed.version = next.version;
        }
        changed
    }
}

/// One batch under way.
struct Step<'a> {
    writer: &'a mut Writer,
    next: &'a mut Snapshot,
    changed: Changed,
}

impl Step<'_> {
    fn apply(&mut self, delta: Delta) {
        match delta {
            Delta::Workload(w) => self.put_workload(*w),
            Delta::WorkloadGone(uid) => self.drop_workload(&uid),
            Delta::Service(s) => self.put_service(s),
            Delta::ServiceGone(key) => self.drop_service(&key),
            Delta::Policy(p) => self.put_policy(p),
            Delta::PolicyGone(key) => self.drop_policy(&key),
            Delta::NodePod(pod) => self.put_node_pod(pod),
            Delta::NodePodGone(uid) => self.drop_node_pod(&uid),
        }
    }

    fn put_workload(&mut self, mut workload: Workload) {
        if self.next.workload(&workload.uid).is_some_and(|old| **old == workload) {
            return;
        }
        self.drop_workload(&workload.uid.clone());
        self.writer.shared.share(&mut workload);
        if self.writer.viewpoint.node.as_ref() == Some(&workload.node) {
            self.stand_at(&workload.locality);
        }
        let uid = workload.uid.clone();
        let workload = Arc::new(workload);
        // Pods on the host's network share the node's address: it stands for none of them.
        if !workload.host_network {
            ByAddress::all(&workload).for_each(|key| self.next.by_address.put(key));
        }
        self.next.by_pod.put(ByPod(workload.clone()));
        for service in workload.services.keys() {
            self.writer.behind.entry(service.clone()).or_default().insert(uid.clone());
            self.changed.services.insert(service.clone());
        }
        if !workload.policies.is_empty() {
            let selection: Arc<[PolicyKey]> = workload.policies.as_slice().into();
            let count = self.writer.selections.entry(selection.clone()).or_default();
            *count += 1;
            if *count == 1 {
                let set = self.set_of_selection(&selection);
                self.next.selected.insert(selection, Arc::new(set));
            }
        }
        self.changed.workloads.insert(uid);
        self.next.workloads.put(ByUid(workload));
    }

    /// Notes where the node is. What its neighbours are called near for changes with it.
    fn stand_at(&mut self, locality: &Locality) {
        let here = (*locality != Locality::default()).then(|| locality.clone());
        if self.writer.locality == here {
            return;
        }
        self.writer.locality = here;
        let concerned = self.next.services.values().filter(|entry| super::viewpoint::is_choosy(entry));
        self.changed.services.extend(concerned.map(|entry| entry.service.key.clone()));
    }

    fn drop_workload(&mut self, uid: &WorkloadUid) {
        let Some(old) = self.next.workload(uid).cloned() else { return };
        self.next.workloads.remove(&Uid(uid));
        for key in ByAddress::all(&old) {
            // Another workload may have taken the address over in the meantime.
            if self.next.by_address.get_key(&key).is_some_and(|now| now.is_of(uid)) {
                self.next.by_address.remove(&key);
            }
        }
        if self.next.by_pod.get_key(&Pod(&old.namespace, &old.name)).is_some_and(|now| now.0.uid == *uid) {
            self.next.by_pod.remove(&Pod(&old.namespace, &old.name));
        }
        for service in old.services.keys() {
            if let Some(behind) = self.writer.behind.get_mut(service) {
                behind.remove(uid);
                if behind.is_empty() {
                    self.writer.behind.remove(service);
                }
            }
            self.changed.services.insert(service.clone());
        }
        if !old.policies.is_empty()
            && let Some(count) = self.writer.selections.get_mut(&*old.policies)
        {
            *count -= 1;
            if *count == 0 {
                self.writer.selections.remove(&*old.policies);
                self.next.selected.remove(&*old.policies);
            }
        }
        self.changed.workloads.insert(uid.clone());
    }

    fn put_service(&mut self, service: Service) {
        let key = service.key.clone();
        if let Some(old) = self.next.services.get(&key).cloned() {
            if old.service == service {
                return;
            }
            self.forget_vips(&old.service);
        }
        for address in &service.addresses {
            self.next.by_vip.insert(address.clone(), key.clone());
        }
        for at in externals(&service) {
            self.next.by_external.insert(at, key.clone());
        }
        let entry = ServiceEntry { service, endpoints: Endpoints::default() };
        self.next.services.insert(key.clone(), Arc::new(entry));
        self.changed.services.insert(key);
    }

    fn drop_service(&mut self, key: &ServiceKey) {
        let Some(old) = self.next.services.remove(key) else { return };
        self.forget_vips(&old.service);
        self.changed.services.insert(key.clone());
    }

    fn forget_vips(&mut self, service: &Service) {
        for address in &service.addresses {
            if self.next.by_vip.get(address) == Some(&service.key) {
                self.next.by_vip.remove(address);
            }
        }
        for at in externals(service) {
            if self.next.by_external.get(&at) == Some(&service.key) {
                self.next.by_external.remove(&at);
            }
        }
    }

    fn put_policy(&mut self, policy: Policy) {
        if self.next.policies.get(&policy.key).is_some_and(|old| **old == policy) {
            return;
        }
        self.drop_policy(&policy.key.clone());
        self.writer.retired.remove(&policy.key);
        if let Some(slot) = scope_slot(&policy) {
            self.writer.scoped.entry(slot).or_default().insert(policy.key.clone());
        }
        self.changed.policies.insert(policy.key.clone());
        self.next.policies.insert(policy.key.clone(), Arc::new(policy));
    }

    fn drop_policy(&mut self, key: &PolicyKey) {
        let Some(old) = self.next.policies.remove(key) else { return };
        if let Some(slot) = scope_slot(&old) {
            if let Some(keys) = self.writer.scoped.get_mut(&slot) {
                keys.remove(key);
            }
            // An emptied scope must be rebuilt as well, and the policy itself no longer tells which it was.
            self.rebuild_scope(&slot);
        }
        self.writer.retired.insert(key.clone());
        self.changed.policies.insert(key.clone());
    }

    fn put_node_pod(&mut self, pod: NodePod) {
        if self.next.node_pods.get(&pod.uid) == Some(&pod) {
            return;
        }
        self.changed.node_pods.insert(pod.uid.clone());
        Arc::make_mut(&mut self.next.node_pods).insert(pod.uid.clone(), pod);
    }

    fn drop_node_pod(&mut self, uid: &Name) {
        if self.next.node_pods.contains_key(uid) {
            Arc::make_mut(&mut self.next.node_pods).remove(uid);
            self.changed.node_pods.insert(uid.clone());
        }
    }

    fn finish(mut self) -> Changed {
        for key in std::mem::take(&mut self.changed.services) {
            self.rearrange(&key);
            self.changed.services.insert(key);
        }
        let slots: FxHashSet<_> =
            self.changed.policies.iter().filter_map(|key| scope_slot(self.next.policies.get(key)?)).collect();
        for slot in &slots {
            self.rebuild_scope(slot);
        }
        if !self.changed.policies.is_empty() {
            self.rebuild_selections();
        }
        self.changed
    }

    /// Rebuilds a service's endpoints from who stands behind it now.
    fn rearrange(&mut self, key: &ServiceKey) {
        let Some(old) = self.next.services.get(key).cloned() else { return };
        let all = self.writer.behind.get(key).into_iter().flatten();
        let all = all.filter_map(|uid| Some(Endpoint { workload: self.next.workload(uid)?.clone() }));
        let Writer { viewpoint, locality, .. } = &*self.writer;
        let endpoints = viewpoint.arrange(locality.as_ref(), &old.service, all.collect());
        let entry = ServiceEntry { service: old.service.clone(), endpoints };
        self.next.services.insert(key.clone(), Arc::new(entry));
    }

    fn rebuild_scope(&mut self, slot: &(PolicyScope, Name)) {
        let keys = self.writer.scoped.get(slot);
        let set = Arc::new(set_of(self.next, keys.into_iter().flatten()));
        match slot.0 {
            PolicyScope::Global => self.next.global = set,
            PolicyScope::Namespace => {
                self.next.by_namespace.insert(slot.1.clone(), set);
            }
            PolicyScope::Selector => {}
        }
    }

    /// Rebuilds the sets that selected workloads share, where one of their policies changed.
    fn rebuild_selections(&mut self) {
        let touched: Vec<_> = (self.writer.selections.keys())
            .filter(|keys| keys.iter().any(|k| self.changed.policies.contains(k)))
            .cloned()
            .collect();
        for selection in touched {
            let set = self.set_of_selection(&selection);
            self.next.selected.insert(selection, Arc::new(set));
        }
        let selections = &self.writer.selections;
        self.writer.retired.retain(|gone| selections.keys().any(|keys| keys.contains(gone)));
    }

    /// The set of policies that workloads select. One that was never received refuses everything: it may be a DENY, or
    /// the ALLOW that closes the workload to the rest. One that was taken away is no more.
    fn set_of_selection(&self, selection: &[PolicyKey]) -> PolicySet {
        let known =
            |key: &&PolicyKey| self.next.policies.get(*key).is_some() || self.writer.retired.contains(key);
        let mut set = set_of(self.next, selection.iter());
        if let Some(key) = selection.iter().find(|key| !known(key)) {
            let everything = Policy {
                key: key.clone(),
                scope: PolicyScope::Selector,
                action: Action::Deny,
                dry_run: false,
                rules: vec![Rule::default()],
            };
            let deny = set.deny.policies().iter().cloned().chain([Arc::new(everything)]);
            set.deny = PolicyIndex::new(deny.collect());
        }
        set
    }
}

/// Where a service is reached from outside.
fn externals(service: &Service) -> impl Iterator<Item = (NetworkAddress, u16)> + '_ {
    let ports = || service.ports.iter().map(|p| p.service_port);
    service.external_addresses.iter().flat_map(move |a| ports().map(move |port| (a.clone(), port)))
}

/// The scope in whose set a policy is kept; none for one that is selected by workloads.
fn scope_slot(policy: &Policy) -> Option<(PolicyScope, Name)> {
    match policy.scope {
        PolicyScope::Global => Some((PolicyScope::Global, "".into())),
        PolicyScope::Namespace => Some((PolicyScope::Namespace, policy.key.namespace.clone())),
        PolicyScope::Selector => None,
    }
}

fn set_of<'k>(snapshot: &Snapshot, keys: impl Iterator<Item = &'k PolicyKey>) -> PolicySet {
    let (mut deny, mut allow, mut dry_run) = (Vec::new(), Vec::new(), Vec::new());
    for policy in keys.filter_map(|k| snapshot.policies.get(k)) {
        match (policy.dry_run, policy.action) {
            (true, _) => dry_run.push(policy.clone()),
            (false, Action::Deny) => deny.push(policy.clone()),
            (false, Action::Allow) => allow.push(policy.clone()),
        }
    }
    PolicySet {
        deny: PolicyIndex::new(deny),
        allow: PolicyIndex::new(allow),
        dry_run: PolicyIndex::new(dry_run),
    }
}

#[cfg(test)]
mod tests;
