//! The fold: objects come in, and mark what depends on them; then what is marked is worked out anew, and what differs
//! from what was told before is told.

mod findings;
mod mark;
mod settle;

use crate::{
    IndexConfig, authorization,
    authorization::PolicyFacts,
    claims::Claims,
    endpoints::Endpoints,
    externals::Externals,
    facts::{self, Digest, Key, NamespaceFacts, PodFacts, ServiceFacts, SliceFacts},
    finding::Note,
    mesh, others,
    others::Other,
    output::Output,
    peer::PeerFacts,
    selector::Labels,
};
use mark::Dirty;
use rustc_hash::FxHashMap;
use std::collections::{BTreeMap, BTreeSet};
use weft_api::{Kind, Object, ObjectKey, security::WorkloadSelector};
use weft_model::{Delta, PolicyKey, workload::Locality};

/// One change to the objects.
#[derive(Clone, Debug)]
pub enum Change {
    /// An object is new or different.
    Put(Box<Object>),
    /// An object is gone.
    Gone(ObjectKey),
}

/// The fold's state.
#[derive(Debug, Default)]
pub struct Index {
    config: IndexConfig,
    namespaces: FxHashMap<String, NamespaceFacts>,
    nodes: FxHashMap<String, Locality>,
    pods: BTreeMap<Key, PodFacts>,
    /// Pods that another mesh carries: normally none.
    others: BTreeMap<Key, Other>,
    services: BTreeMap<Key, ServiceFacts>,
    /// The services whose selectors count: those that have no slices. Where Kubernetes makes slices these are few.
    selecting: BTreeMap<Key, ()>,
    policies: BTreeMap<Key, PolicyFacts>,
    peers: BTreeMap<Key, PeerFacts>,
    endpoints: Endpoints,
    claims: Claims,
    externals: Externals,
    dirty: Dirty,
    /// The policies that were made of PeerAuthentications.
    converted: BTreeSet<PolicyKey>,
    /// What is odd about objects in themselves.
    notes: BTreeMap<ObjectKey, Vec<Note>>,
    /// Which addresses objects did not get.
    contested: BTreeMap<ObjectKey, Vec<Note>>,
    output: Output,
}

impl Index {
    /// An index of nothing.
    pub fn new(config: IndexConfig) -> Self {
        Self { config, ..Self::default() }
    }

    /// Folds `changes` in; answers what they change for the nodes.
    pub fn apply(&mut self, changes: impl IntoIterator<Item = Change>) -> Vec<Delta> {
        for change in changes {
            match change {
                Change::Put(object) => self.put(*object),
                Change::Gone(key) => self.gone(key),
            }
        }
        self.settle();
        self.output.take()
    }

    fn put(&mut self, object: Object) {
        let id = object.key();
        let key = (id.namespace.clone(), id.name.clone());
        let root = self.config.root_namespace.clone();
        match object {
            Object::Namespace(o) => {
                let mut notes = Vec::new();
                let labels = facts::labels(&o.metadata);
                let facts = NamespaceFacts {
                    wish: mesh::wish(&labels, &mut notes),
                    always_encrypt: mesh::always_encrypt(&labels, &mut notes),
                };
                if facts.wish == Some(true) {
                    notes.extend(others::injected(&labels, o.metadata.annotations.as_ref()));
                }
                self.note(&id, notes);
                self.namespaces.insert(key.1.clone(), facts);
                self.mark_pods_of(&key.1);
            }
            Object::Node(o) => {
                self.nodes.insert(key.1.clone(), facts::locality(&facts::labels(&o.metadata)));
                self.mark_pods_on(&key.1);
            }
            // An identity exists by being used; nothing of the object itself matters.
            Object::ServiceAccount(_) => {}
            Object::Pod(o) => {
                if let Some(facts) = self.accept(&id, PodFacts::digest(key.clone(), &o)) {
                    self.set_pod(key, Some(facts));
                }
            }
            Object::Service(o) => {
                if let Some(facts) = self.accept(&id, ServiceFacts::digest(key.clone(), &o)) {
                    self.set_service(key, Some(facts));
                }
            }
            Object::EndpointSlice(o) => {
                if let Some(facts) = self.accept(&id, SliceFacts::digest(key.clone(), &o)) {
                    self.set_slice(&key, Some(facts));
                }
            }
            Object::AuthorizationPolicy(o) => {
                match self.accept(&id, authorization::digest(&root, &key, &o)) {
                    Some(facts) => self.set_policy(key, Some(facts)),
                    None if authorization::is_enforced(&o) => self.close(&id, labels_of(o.spec.selector)),
                    None => {}
                }
            }
            Object::PeerAuthentication(o) => {
                match self.accept(&id, PeerFacts::digest(&root, key.clone(), &o)) {
                    Some(facts) => self.set_peer(key, Some(facts)),
                    None => self.close(&id, labels_of(o.spec.selector)),
                }
            }
            Object::Broken(o) => {
                self.note(&id, Vec::new());
                self.close(&id, o.selector);
            }
        }
    }

    /// Closes what a policy is about that cannot be used, unless an earlier version of it is in force.
    fn close(&mut self, id: &ObjectKey, selector: Labels) {
        let key = (id.namespace.clone(), id.name.clone());
        match id.kind {
            Kind::AuthorizationPolicy if self.policies.get(&key).is_none_or(|p| p.closed) => {
                let facts = authorization::closed(&self.config.root_namespace, &key, &selector);
                self.set_policy(key, Some(facts));
            }
            Kind::PeerAuthentication if self.peers.get(&key).is_none_or(|p| p.closed) => {
                self.set_peer(key.clone(), Some(PeerFacts::closed(key, &selector)));
            }
            _ => {}
        }
    }

    fn gone(&mut self, id: ObjectKey) {
        self.note(&id, Vec::new());
        let key = (id.namespace, id.name);
        match id.kind {
            Kind::Namespace => {
                self.namespaces.remove(&key.1);
                self.mark_pods_of(&key.1);
            }
            Kind::Node => {
                self.nodes.remove(&key.1);
                self.mark_pods_on(&key.1);
            }
            Kind::ServiceAccount => {}
            Kind::Pod => self.set_pod(key, None),
            Kind::Service => self.set_service(key, None),
            Kind::EndpointSlice => self.set_slice(&key, None),
            Kind::AuthorizationPolicy => self.set_policy(key, None),
            Kind::PeerAuthentication => self.set_peer(key, None),
        }
    }

    /// The facts of an object that can be used; of one that cannot, only the reasons are kept, and whatever held before
    /// goes on to hold.
    fn accept<T>(&mut self, id: &ObjectKey, digest: Digest<T>) -> Option<T> {
        let (facts, notes) = match digest {
            Ok((facts, notes)) => (Some(facts), notes),
            Err(notes) => (None, notes),
        };
        self.note(id, notes);
        facts
    }

    fn note(&mut self, id: &ObjectKey, notes: Vec<Note>) {
        if notes.is_empty() {
            self.notes.remove(id);
        } else {
            self.notes.insert(id.clone(), notes);
        }
    }

    fn set_pod(&mut self, key: Key, new: Option<PodFacts>) {
        if let Some(old) = self.pods.remove(&key) {
            self.dirty.bare.extend(self.endpoints.place(&old, false));
        }
        match new.as_ref().and_then(|pod| pod.other.filter(|_| !pod.host_network)) {
            Some(other) => self.others.insert(key.clone(), other),
            None => self.others.remove(&key),
        };
        if let Some(new) = new {
            self.dirty.bare.extend(self.endpoints.place(&new, true));
            self.pods.insert(key.clone(), new);
        }
        self.dirty.pods.insert(key);
    }

    fn set_service(&mut self, key: Key, new: Option<ServiceFacts>) {
        let old = match new {
            Some(new) => self.services.insert(key.clone(), new),
            None => self.services.remove(&key),
        };
        let selects = |s: Option<&ServiceFacts>| s.is_some_and(|s| !s.selector.is_empty());
        let by_selector = selects(old.as_ref()) || selects(self.services.get(&key));
        if by_selector && !self.endpoints.has_slices(&key) {
            self.mark_pods_of(&key.0);
        }
        let sharers = self.externals.place(&key, old.as_ref(), self.services.get(&key));
        self.dirty.services.extend(sharers);
        self.dirty.touch(self.endpoints.members(&key));
        self.note_selecting(&key);
        self.dirty.services.insert(key);
    }

    fn note_selecting(&mut self, key: &Key) {
        let selects = self.services.get(key).is_some_and(|s| !s.selector.is_empty());
        if selects && !self.endpoints.has_slices(key) {
            self.selecting.insert(key.clone(), ());
        } else {
            self.selecting.remove(key);
        }
    }

    fn set_slice(&mut self, key: &Key, new: Option<SliceFacts>) {
        let touched = self.endpoints.put(key, new);
        if touched.flipped {
            self.mark_pods_of(&key.0);
        }
        touched.services.iter().for_each(|service| self.note_selecting(service));
        self.dirty.touch(touched);
    }

    fn set_policy(&mut self, key: Key, new: Option<PolicyFacts>) {
        let old = match new {
            Some(new) => self.policies.insert(key.clone(), new),
            None => self.policies.remove(&key),
        };
        let selects = |p: Option<&PolicyFacts>| p.is_some_and(|p| p.selector.is_some());
        if selects(old.as_ref()) || selects(self.policies.get(&key)) {
            self.mark_scope(&key.0);
        }
        self.dirty.policies.insert(key);
    }

    fn set_peer(&mut self, key: Key, new: Option<PeerFacts>) {
        self.mark_scope(&key.0);
        match new {
            Some(new) => self.peers.insert(key, new),
            None => self.peers.remove(&key),
        };
        self.dirty.peers = true;
    }
}

fn labels_of(selector: Option<WorkloadSelector>) -> Labels {
    selector.map(|s| s.match_labels).unwrap_or_default()
}

/// The objects of one namespace.
fn within<'a, T>(
    objects: &'a BTreeMap<Key, T>,
    namespace: &'a str,
) -> impl Iterator<Item = (&'a Key, &'a T)> {
    objects.range((namespace.to_owned(), String::new())..).take_while(move |((ns, _), _)| ns == namespace)
}

#[cfg(test)]
mod tests;
