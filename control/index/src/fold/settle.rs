//! Working out what is marked.

use super::{Index, within};
use crate::{
    facts::{EndpointFacts, Key, PodFacts, ServiceFacts, SliceFacts},
    finding::{Note, Severity},
    peer::{self, PeerFacts},
    selector,
    workload::{ports_of_pod, ports_of_slice},
};
use std::{collections::BTreeSet, mem, net::IpAddr, sync::Arc};
use weft_api::{Kind, ObjectKey};
use weft_model::{
    Name, NetworkAddress, NodePod, Policy, PolicyKey, Workload, service::LocalityMode, workload::ServicePorts,
};

impl Index {
    /// Works out everything that is marked. Policies come first: a node must not learn of a workload before it learns
    /// what that workload forbids.
    pub(super) fn settle(&mut self) {
        for key in mem::take(&mut self.dirty.policies) {
            let policy = self.policies.get(&key).and_then(|facts| facts.policy.clone());
            self.output.policy(&policy_key(&key), policy);
        }
        if mem::take(&mut self.dirty.peers) {
            self.settle_peers();
        }
        self.mark_noted();
        // An address that one object lets go of may be what another waits for.
        while !(self.dirty.services.is_empty() && self.dirty.pods.is_empty()) {
            let mut services = Vec::from_iter(mem::take(&mut self.dirty.services));
            services.sort_by_cached_key(|k| (self.services.get(k).map(|s| s.age.clone()), k.clone()));
            services.iter().for_each(|key| self.settle_service(key));
            let mut pods = Vec::from_iter(mem::take(&mut self.dirty.pods));
            pods.sort_by_cached_key(|k| (self.pods.get(k).map(|p| p.age.clone()), k.clone()));
            pods.iter().for_each(|key| self.settle_pod(key));
        }
        for (namespace, ip) in mem::take(&mut self.dirty.bare) {
            let workload = self.build_bare(&namespace, &ip);
            self.output.workload(&self.config.bare_uid(&namespace, &ip), workload);
        }
    }

    fn settle_peers(&mut self) {
        let mut wanted: Vec<Policy> =
            self.peers.values().filter_map(|p| p.policy(self.inherited(&p.key.0))).collect();
        if !self.peers.is_empty() {
            wanted.push(peer::static_strict(&self.config.root_namespace));
        }
        let keys: BTreeSet<PolicyKey> = wanted.iter().map(|p| p.key.clone()).collect();
        for gone in self.converted.difference(&keys) {
            self.output.policy(gone, None);
        }
        self.converted = keys;
        for policy in wanted {
            self.output.policy(&policy.key.clone(), Some(policy));
        }
    }

    /// Whether the mesh and then the namespace demand mutual TLS.
    fn inherited(&self, namespace: &str) -> bool {
        let root = self.config.root_namespace.as_str();
        let mesh = self.wide_peer(root).is_some_and(|p| p.strict(false));
        self.wide_peer(namespace).map_or(mesh, |p| p.strict(mesh))
    }

    /// The PeerAuthentication that holds for all of a namespace.
    pub(super) fn wide_peer<'a>(&'a self, namespace: &'a str) -> Option<&'a PeerFacts> {
        peer::oldest(within(&self.peers, namespace).map(|(_, p)| p).filter(|p| p.selector.is_none()))
    }

    fn settle_service(&mut self, key: &Key) {
        let facts = self.services.get(key).filter(|s| !s.external_name);
        let network: Name = self.config.network.as_str().into();
        let at = |ip: &IpAddr| NetworkAddress::new(network.clone(), *ip);
        let vips = facts.map_or_else(Vec::new, |s| s.vips.iter().map(at).collect());
        let granted = self.claim(Kind::Service, key, vips);
        let service = self.services.get(key).filter(|s| !s.external_name);
        let service = service.map(|s| {
            let free = s.externals.iter().filter(|e| self.externals.rival(s, e).is_none());
            let mut service = self.config.service(s, granted);
            service.external_addresses = free.map(|e| at(&e.ip)).collect();
            service
        });
        self.output.service(&self.config.service_key(key), service);
    }

    fn settle_pod(&mut self, key: &Key) {
        let workload = self.pods.get(key).and_then(|pod| self.build(pod));
        let exclusive = workload.as_ref().filter(|w| !w.host_network);
        let wanted = exclusive.map_or_else(Vec::new, |w| w.network_addresses().collect());
        let granted = self.claim(Kind::Pod, key, wanted);
        let workload = workload.and_then(|mut w| {
            // Without a sandbox it has none yet, and is its own node's business alone.
            let is_awaited = w.addresses.is_empty();
            if !w.host_network {
                w.addresses = granted.iter().map(|a| a.ip).collect();
            }
            (is_awaited || !w.addresses.is_empty()).then_some(w)
        });
        let node_pod = self.pods.get(key).and_then(|pod| self.node_pod(pod));
        self.output.node_pod(key, node_pod);
        self.output.workload(&self.config.pod_uid(key), workload);
    }

    /// Claims addresses for an object; what it does not get is noted, and who inherits from it is marked.
    fn claim(&mut self, kind: Kind, key: &Key, addresses: Vec<NetworkAddress>) -> Vec<NetworkAddress> {
        let id = ObjectKey { kind, namespace: key.0.clone(), name: key.1.clone() };
        let ruling = self.claims.claim(&id, addresses);
        for heir in ruling.promoted {
            let key = (heir.namespace, heir.name);
            match heir.kind {
                Kind::Service => self.dirty.services.insert(key),
                _ => self.dirty.pods.insert(key),
            };
        }
        let field = if kind == Kind::Service { "spec.clusterIPs" } else { "status.podIPs" };
        let contested = ruling.contested.into_iter().map(|(address, owner)| {
            Note::new(
                Severity::Error,
                field,
                format!("{} already belongs to {owner}, which keeps it", address.ip),
                "give one of the two another address, or delete the stale one",
            )
        });
        let contested: Vec<Note> = contested.collect();
        if contested.is_empty() {
            self.contested.remove(&id);
        } else {
            self.contested.insert(id, contested);
        }
        ruling.granted
    }

    fn build(&self, pod: &PodFacts) -> Option<Workload> {
        let meshed = self.is_meshed(pod);
        // The node of a meshed pod prepares for it (its certificate, its policies) before there is a sandbox.
        let is_awaited = meshed && is_placed(pod);
        if pod.finished || pod.ips.is_empty() && !is_awaited {
            return None;
        }
        let namespace = self.namespaces.get(&pod.key.0).copied().unwrap_or_default();
        let mut workload = self.config.workload(pod, meshed);
        workload.always_encrypt = meshed && pod.always_encrypt.or(namespace.always_encrypt) == Some(true);
        for (slice, endpoint) in self.endpoints.of_pod(pod) {
            let key = (slice.key.0.clone(), slice.service.clone());
            let Some(service) = self.services.get(&key).filter(|s| !s.external_name) else { continue };
            self.stand_behind(&mut workload, service, slice, endpoint);
        }
        // Without Kubernetes nobody makes slices of selectors, so a service that has none is taken at its word.
        for (key, ()) in within(&self.selecting, &pod.key.0) {
            if let Some(service) = self.services.get(key)
                && selector::matches(&service.selector, &pod.labels)
            {
                join(
                    Arc::make_mut(&mut workload.services),
                    self.config.service_key(key),
                    ports_of_pod(service, pod),
                );
            }
        }
        if let Some(locality) = self.nodes.get(&pod.node) {
            workload.locality = locality.clone();
        }
        if meshed {
            workload.policies = self.selected(pod);
        }
        Some(workload)
    }

    /// Puts a workload behind the service that `slice` names it for.
    fn stand_behind(
        &self,
        workload: &mut Workload,
        service: &ServiceFacts,
        slice: &SliceFacts,
        endpoint: &EndpointFacts,
    ) {
        let key = self.config.service_key(&service.key);
        // Of the kinds of nearness one holds: a service that asks for another than its slices' hints gets that one.
        if let Some(hint) = &endpoint.hint
            && service.load_balancing.mode == LocalityMode::Any
        {
            let hints = Arc::make_mut(workload.hints.get_or_insert_default());
            hints.insert(key.clone(), (**hint).clone());
        }
        join(Arc::make_mut(&mut workload.services), key, ports_of_slice(service, slice));
        workload.health = workload.health.max(endpoint.health);
    }

    /// Whether labels ask for the pod to take part.
    pub(super) fn is_wished(&self, pod: &PodFacts) -> bool {
        let namespace = self.namespaces.get(&pod.key.0).copied().unwrap_or_default();
        pod.wish.or(namespace.wish) == Some(true)
    }

    fn is_meshed(&self, pod: &PodFacts) -> bool {
        self.is_wished(pod) && !pod.host_network && pod.other.is_none()
    }

    /// What the agent of its node is told of a pod. One that shares the node's network is none of its business.
    fn node_pod(&self, pod: &PodFacts) -> Option<NodePod> {
        (is_placed(pod) && !pod.finished && !pod.host_network).then(|| NodePod {
            uid: pod.uid.as_str().into(),
            namespace: pod.key.0.as_str().into(),
            name: pod.key.1.as_str().into(),
            node: pod.node.as_str().into(),
            meshed: self.is_meshed(pod),
        })
    }

    /// The policies whose selectors pick `pod`, in the order of their keys.
    fn selected(&self, pod: &PodFacts) -> Vec<PolicyKey> {
        let (own, root) = (pod.key.0.as_str(), self.config.root_namespace.as_str());
        let from_root = within(&self.policies, root).filter(|_| own != root);
        let mut keys: BTreeSet<PolicyKey> = within(&self.policies, own)
            .chain(from_root)
            .filter(|(_, p)| p.policy.is_some())
            .filter(|(_, p)| p.selector.as_ref().is_some_and(|s| selector::matches(s, &pod.labels)))
            .map(|(key, _)| policy_key(key))
            .collect();
        let picks = |p: &&PeerFacts| p.selector.as_ref().is_some_and(|s| selector::matches(s, &pod.labels));
        let peer = peer::oldest(within(&self.peers, own).map(|(_, p)| p).filter(picks));
        let inherited = self.inherited(own);
        if let Some(policy) = peer.and_then(|p| p.policy(inherited)) {
            keys.insert(policy.key);
        } else if peer.map_or(inherited, |p| p.strict(inherited)) {
            keys.insert(peer::static_strict(root).key);
        }
        keys.into_iter().collect()
    }

    fn build_bare(&self, namespace: &str, ip: &IpAddr) -> Option<Workload> {
        let mut workload: Option<Workload> = None;
        for (slice, endpoint) in self.endpoints.of_bare(namespace, ip) {
            let key = (slice.key.0.clone(), slice.service.clone());
            let Some(service) = self.services.get(&key).filter(|s| !s.external_name) else { continue };
            let w = workload.get_or_insert_with(|| self.config.bare(namespace, ip, endpoint));
            self.stand_behind(w, service, slice, endpoint);
            if let Some(locality) = self.nodes.get(&endpoint.node) {
                w.locality = locality.clone();
            }
        }
        workload
    }
}

/// Whether the pod is placed on a node, where its cgroup will tell it.
fn is_placed(pod: &PodFacts) -> bool {
    !pod.node.is_empty() && !pod.uid.is_empty()
}

/// A pod may be in several slices of one service: one for each address family, or for each set of ports.
fn join(
    behind: &mut ServicePorts,
    service: weft_model::ServiceKey,
    ports: Vec<weft_model::workload::PortMapping>,
) {
    let known = behind.entry(service).or_default();
    for port in ports {
        if !known.contains(&port) {
            known.push(port);
        }
    }
}

fn policy_key((namespace, name): &Key) -> PolicyKey {
    PolicyKey { namespace: namespace.as_str().into(), name: name.as_str().into() }
}
