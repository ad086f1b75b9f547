//! The resources as they stand now, each with the moment of its last change.
//!
//! Nothing is queued for a node: a stream remembers the moment up to which its node is current, and asks for what changed
//! since. However slow a node is, it costs one number, and of ten changes to one resource it gets the last.
//!
//! Most resources are for every node. Some are for one alone: its pods, and workloads that have no address yet, which
//! nobody else could reach.

use aws_lc_rs::digest::{SHA256, digest};
use rustc_hash::FxHashMap;
use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
};
use tokio::sync::watch;
use weft_io::discovery::{
    convert::{self, Kind},
    proto::discovery::Resource,
};
use weft_model::{Delta, Name};

/// So many removals are remembered; a node that is further behind starts over.
const TOMBSTONES: usize = 100_000;

/// A moment: changes are counted.
pub type Moment = u64;

/// The newest state of everything.
#[derive(Debug)]
pub struct Resources {
    state: RwLock<State>,
    /// The moment of the last change, for those who wait for the next one.
    now: watch::Sender<Moment>,
}

#[derive(Debug, Default)]
struct State {
    addresses: OneKind,
    policies: OneKind,
    node_pods: OneKind,
    /// The moment of the last change.
    now: Moment,
}

#[derive(Debug, Default)]
struct OneKind {
    entries: FxHashMap<Arc<str>, Entry>,
    /// The same entries in the order of their last change.
    order: BTreeMap<Moment, Arc<str>>,
    tombstones: usize,
    /// Removals up to this moment are forgotten.
    forgotten: Moment,
}

#[derive(Debug)]
struct Entry {
    changed: Moment,
    /// `None` for a removal.
    resource: Option<Arc<Resource>>,
    /// The only node that it is for; `None` for every node.
    audience: Option<Name>,
    /// It was for more nodes before: to them it is gone.
    was_wider: bool,
}

impl Entry {
    /// What it is to `node`.
    fn to(&self, node: &str) -> Option<&Arc<Resource>> {
        self.resource.as_ref().filter(|_| self.audience.as_ref().is_none_or(|only| **only == *node))
    }
}

/// What a node lacks.
#[derive(Debug, Default)]
pub struct Missing {
    /// New or changed.
    pub resources: Vec<Arc<Resource>>,
    /// Gone.
    pub removed: Vec<String>,
    /// The node is current up to here once it has these.
    pub upto: Moment,
}

impl Default for Resources {
    fn default() -> Self {
        Self { state: RwLock::default(), now: watch::channel(0).0 }
    }
}

impl Resources {
    /// Takes `deltas` in; those that wait are told once.
    pub fn apply(&self, deltas: &[Delta]) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        for delta in deltas {
            state.now += 1;
            let now = state.now;
            let kind = state.of_mut(convert::kind_of(delta));
            match convert::encode(delta) {
                Some((_, resource)) => kind.put(versioned(resource), audience(delta), now),
                None => kind.remove(convert::name_of(delta).1.to_string(), now),
            }
        }
        let now = state.now;
        drop(state);
        self.now.send_replace(now);
    }

    /// Tells the moment of each change from now on.
    pub fn watch(&self) -> watch::Receiver<Moment> {
        self.now.subscribe()
    }

    /// How many resources of `kind` there are.
    pub fn count(&self, kind: Kind) -> usize {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let kind = state.of(kind);
        kind.entries.len() - kind.tombstones
    }

    /// What `node` lacks that holds these `versions`.
    pub fn beyond(&self, kind: Kind, node: &str, versions: &BTreeMap<String, String>) -> Missing {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let of_kind = state.of(kind);
        let lives = |name: &str| of_kind.entries.get(name).and_then(|e| e.to(node));
        let resources = of_kind.order.values().filter_map(|name| lives(name));
        Missing {
            resources: resources.filter(|r| versions.get(&r.name) != Some(&r.version)).cloned().collect(),
            removed: versions.keys().filter(|name| lives(name).is_none()).cloned().collect(),
            upto: state.now,
        }
    }

    /// What changed for `node` after `since`; `None` where that is too long ago to say.
    pub fn since(&self, kind: Kind, node: &str, since: Moment) -> Option<Missing> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let of_kind = state.of(kind);
        if since < of_kind.forgotten {
            return None;
        }
        let mut missing = Missing { upto: state.now, ..Missing::default() };
        for name in of_kind.order.range(since + 1..).map(|(_, name)| name) {
            let Some(entry) = of_kind.entries.get(name) else { continue };
            match entry.to(node) {
                Some(resource) => missing.resources.push(resource.clone()),
                None if entry.resource.is_none() || entry.was_wider => missing.removed.push(name.to_string()),
                // Another node's alone.
                None => {}
            }
        }
        Some(missing)
    }
}

impl State {
    fn of(&self, kind: Kind) -> &OneKind {
        match kind {
            Kind::Address => &self.addresses,
            Kind::Authorization => &self.policies,
            Kind::NodePod => &self.node_pods,
        }
    }

    fn of_mut(&mut self, kind: Kind) -> &mut OneKind {
        match kind {
            Kind::Address => &mut self.addresses,
            Kind::Authorization => &mut self.policies,
            Kind::NodePod => &mut self.node_pods,
        }
    }
}

impl OneKind {
    fn put(&mut self, resource: Resource, audience: Option<Name>, now: Moment) {
        self.set(Arc::from(resource.name.as_str()), Some(Arc::new(resource)), audience, now);
    }

    fn remove(&mut self, name: String, now: Moment) {
        self.set(name.into(), None, None, now);
        while self.tombstones > TOMBSTONES {
            let dead = |(_, name): &(&Moment, &Arc<str>)| {
                self.entries.get(*name).is_some_and(|e| e.resource.is_none())
            };
            let Some((moment, name)) = self.order.iter().find(dead).map(|(m, n)| (*m, n.clone())) else {
                break;
            };
            self.order.remove(&moment);
            self.entries.remove(&name);
            self.tombstones -= 1;
            self.forgotten = moment;
        }
    }

    fn set(&mut self, name: Arc<str>, resource: Option<Arc<Resource>>, audience: Option<Name>, now: Moment) {
        self.tombstones += usize::from(resource.is_none());
        let was_wider = audience.is_some()
            && self
                .entries
                .get(&name)
                .is_some_and(|old| old.was_wider || old.resource.is_some() && old.audience != audience);
        let entry = Entry { changed: now, resource, audience, was_wider };
        if let Some(old) = self.entries.insert(name.clone(), entry) {
            self.order.remove(&old.changed);
            self.tombstones -= usize::from(old.resource.is_none());
        }
        self.order.insert(now, name);
    }
}

/// The only node that `delta` is for; `None` for every node.
fn audience(delta: &Delta) -> Option<Name> {
    match delta {
        Delta::NodePod(pod) => Some(pod.node.clone()),
        Delta::Workload(w) if w.addresses.is_empty() && !w.node.is_empty() => Some(w.node.clone()),
        _ => None,
    }
}

/// A version is a hash of the content: it survives restarts of the control plane, and equal content is never sent twice.
fn versioned(mut resource: Resource) -> Resource {
    if let Some(any) = &resource.resource {
        let hash = digest(&SHA256, &any.value);
        resource.version = hash.as_ref().iter().take(8).map(|b| format!("{b:02x}")).collect();
    }
    resource
}

#[cfg(test)]
mod tests {
    use super::*;
    use weft_model::{NodePod, Service, ServiceKey, Workload};

    fn service(name: &str, san: &str) -> Delta {
        let mut s = Service::new("shop", name, name);
        s.subject_alt_names = vec![san.into()];
        Delta::Service(s)
    }

    fn gone(name: &str) -> Delta {
        Delta::ServiceGone(ServiceKey { namespace: "shop".into(), hostname: name.into() })
    }

    fn names(missing: &Missing) -> Vec<&str> {
        missing.resources.iter().map(|r| r.name.as_str()).collect()
    }

    #[test]
    fn ten_changes_of_one_resource_are_one() {
        let resources = Resources::default();
        resources.apply(&[service("a", "0"), service("b", "0")]);
        let start = resources.beyond(Kind::Address, "n1", &BTreeMap::new());
        assert_eq!(names(&start), ["shop/a", "shop/b"]);
        for n in 0..10 {
            resources.apply(&[service("a", &n.to_string())]);
        }
        resources.apply(&[gone("b")]);
        let missing = resources.since(Kind::Address, "n1", start.upto).unwrap();
        assert_eq!(names(&missing), ["shop/a"]);
        assert_eq!(missing.removed, ["shop/b"]);
        assert!(resources.since(Kind::Address, "n1", missing.upto).unwrap().resources.is_empty());
        assert_eq!(resources.count(Kind::Address), 1);
    }

    #[test]
    fn versions_that_are_held_are_not_sent_again() {
        let resources = Resources::default();
        resources.apply(&[service("a", "0"), service("b", "0")]);
        let all = resources.beyond(Kind::Address, "n1", &BTreeMap::new());
        let mut held: BTreeMap<String, String> =
            all.resources.iter().map(|r| (r.name.clone(), r.version.clone())).collect();
        held.insert("shop/c".into(), "stale".into());
        resources.apply(&[service("a", "1")]);
        let missing = resources.beyond(Kind::Address, "n1", &held);
        assert_eq!(names(&missing), ["shop/a"]);
        assert_eq!(missing.removed, ["shop/c"]);
        // Another process with the same content gives the same versions.
        let other = Resources::default();
        other.apply(&[service("b", "0"), service("a", "1")]);
        assert_eq!(names(&other.beyond(Kind::Address, "n1", &held)), ["shop/a"]);
    }

    #[test]
    fn removals_are_forgotten_at_last_and_whoever_is_behind_learns_it() {
        let resources = Resources::default();
        resources.apply(&[gone("early")]);
        let many: Vec<Delta> = (0..TOMBSTONES).map(|n| gone(&n.to_string())).collect();
        resources.apply(&many);
        assert!(resources.since(Kind::Address, "n1", 0).is_none());
        assert_eq!(resources.since(Kind::Address, "n1", 1).unwrap().removed.len(), TOMBSTONES);
        assert!(resources.since(Kind::Authorization, "n1", 0).is_some(), "each kind for itself");
    }

    fn pod(uid: &str, node: &str) -> Delta {
        let [uid, node] = [uid, node].map(Name::from);
        Delta::NodePod(NodePod { name: uid.clone(), uid, namespace: "shop".into(), node, meshed: true })
    }

    #[test]
    fn a_node_hears_of_its_own_pods_alone() {
        let resources = Resources::default();
        resources.apply(&[pod("a", "n1"), pod("b", "n2")]);
        let of = |node| resources.beyond(Kind::NodePod, node, &BTreeMap::new());
        let [one, two] = ["n1", "n2"].map(of);
        assert_eq!((names(&one), names(&two)), (vec!["a"], vec!["b"]));
        let held = |m: &Missing| m.resources.iter().map(|r| (r.name.clone(), r.version.clone())).collect();
        let stolen = resources.beyond(Kind::NodePod, "n2", &held(&one));
        assert_eq!((names(&stolen), &stolen.removed), (vec!["b"], &vec!["a".to_owned()]));
        resources.apply(&[pod("c", "n1"), Delta::NodePodGone("a".into())]);
        let news = |node| resources.since(Kind::NodePod, node, one.upto).unwrap();
        assert_eq!((names(&news("n1")), news("n1").removed), (vec!["c"], vec!["a".to_owned()]));
        assert_eq!(names(&news("n2")), Vec::<&str>::new());
    }

    #[test]
    fn a_workload_is_everybodys_when_it_has_an_address() {
        let resources = Resources::default();
        let workload = |addresses: &[&str]| {
            let mut w = Workload::new("w", "shop", "w", "w");
            w.node = "n1".into();
            w.addresses = addresses.iter().map(|ip| ip.parse().unwrap()).collect();
            Delta::Workload(Box::new(w))
        };
        resources.apply(&[workload(&[])]);
        let at = |node, since| resources.since(Kind::Address, node, since).unwrap();
        assert_eq!((names(&at("n1", 0)), at("n2", 0).resources.len()), (vec!["w"], 0));
        let upto = at("n2", 0).upto;
        resources.apply(&[workload(&["10.0.0.1"])]);
        assert_eq!((names(&at("n1", upto)), names(&at("n2", upto))), (vec!["w"], vec!["w"]));
        let upto = at("n2", 0).upto;
        resources.apply(&[workload(&[])]);
        assert_eq!((names(&at("n1", upto)), at("n2", upto).removed), (vec!["w"], vec!["w".to_owned()]));
    }
}
