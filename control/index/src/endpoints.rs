//! Who stands behind which service: the relations between slices, pods and addresses, kept in both directions.

use crate::facts::{self, EndpointFacts, Key, PodFacts, SliceFacts};
use rustc_hash::FxHashMap;
use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

/// Slices, and who is in them.
#[derive(Debug, Default)]
pub(crate) struct Endpoints {
    slices: BTreeMap<Key, SliceFacts>,
    /// The slices of a service.
    of_service: FxHashMap<Key, BTreeSet<Key>>,
    /// The slices that name a pod.
    of_pod: FxHashMap<Key, BTreeSet<Key>>,
    /// The slices that name only an address.
    of_ip: FxHashMap<IpAddr, BTreeSet<Key>>,
    /// The pods that have an address.
    pods_at: FxHashMap<IpAddr, BTreeSet<Key>>,
}

/// What a slice's coming or going touches.
#[derive(Debug, Default)]
pub(crate) struct Touched {
    pub services: BTreeSet<Key>,
    pub pods: BTreeSet<Key>,
    /// Endpoints that may be no pods, by the slice's namespace.
    pub bare: BTreeSet<(String, IpAddr)>,
    /// A service has its first slice, or lost its last one: its selector counts no more, or again.
    pub flipped: bool,
}

impl Endpoints {
    /// Puts a slice in the place of its former self, or takes it away.
    pub(crate) fn put(&mut self, key: &Key, slice: Option<SliceFacts>) -> Touched {
        let mut touched = Touched::default();
        let old = self.slices.remove(key);
        let services: BTreeSet<Key> =
            old.iter().chain(&slice).map(|s| (s.key.0.clone(), s.service.clone())).collect();
        let had: Vec<bool> = services.iter().map(|s| self.has_slices(s)).collect();
        if let Some(old) = old {
            self.relate(&old, false, &mut touched);
        }
        if let Some(new) = slice {
            self.relate(&new, true, &mut touched);
            self.slices.insert(key.clone(), new);
        }
        touched.flipped = services.iter().zip(had).any(|(s, had)| had != self.has_slices(s));
        touched
    }

    fn relate(&mut self, slice: &SliceFacts, add: bool, touched: &mut Touched) {
        let service = (slice.key.0.clone(), slice.service.clone());
        relate(&mut self.of_service, &service, &slice.key, add);
        touched.services.insert(service);
        for endpoint in &slice.endpoints {
            if let Some(pod) = &endpoint.pod {
                relate(&mut self.of_pod, pod, &slice.key, add);
                touched.pods.insert(pod.clone());
                continue;
            }
            relate(&mut self.of_ip, &endpoint.ip, &slice.key, add);
            touched.bare.insert((slice.key.0.clone(), endpoint.ip));
            touched.pods.extend(self.pods_at.get(&endpoint.ip).into_iter().flatten().cloned());
        }
    }

    /// Notes a pod's coming or going at its addresses; answers the bare endpoints that it takes or leaves.
    pub(crate) fn place(&mut self, pod: &PodFacts, here: bool) -> BTreeSet<(String, IpAddr)> {
        let mut bare = BTreeSet::new();
        if pod.host_network || pod.finished {
            return bare;
        }
        for ip in &pod.ips {
            relate(&mut self.pods_at, ip, &pod.key, here);
            let slices = self.of_ip.get(ip).into_iter().flatten();
            bare.extend(slices.map(|(namespace, _)| (namespace.clone(), *ip)));
        }
        bare
    }

    /// Whether there is such a slice.
    pub(crate) fn has_slice(&self, slice: &Key) -> bool {
        self.slices.contains_key(slice)
    }

    /// Whether `service` has any slice.
    pub(crate) fn has_slices(&self, service: &Key) -> bool {
        self.of_service.contains_key(service)
    }

    /// The pods and addresses in the slices of `service`.
    pub(crate) fn members(&self, service: &Key) -> Touched {
        let mut touched = Touched::default();
        for slice in self.of_service.get(service).into_iter().flatten().filter_map(|k| self.slices.get(k)) {
            for endpoint in &slice.endpoints {
                match &endpoint.pod {
                    Some(pod) => touched.pods.extend([pod.clone()]),
                    None => {
                        touched.bare.insert((slice.key.0.clone(), endpoint.ip));
                        touched.pods.extend(self.pods_at.get(&endpoint.ip).into_iter().flatten().cloned());
                    }
                }
            }
        }
        touched
    }

    /// The slices that a pod is in, and as which endpoint.
    pub(crate) fn of_pod<'a>(
        &'a self,
        pod: &'a PodFacts,
    ) -> impl Iterator<Item = (&'a SliceFacts, &'a EndpointFacts)> {
        let by_name = self.of_pod.get(&pod.key).into_iter().flatten();
        let ips: &[IpAddr] = if pod.host_network { &[] } else { &pod.ips };
        let by_ip = ips.iter().filter_map(|ip| self.of_ip.get(ip)).flatten();
        let keys: BTreeSet<&Key> = by_name.chain(by_ip).collect();
        keys.into_iter().filter_map(|k| self.slices.get(k)).flat_map(|slice| {
            let is_pod = |e: &&EndpointFacts| match &e.pod {
                Some(named) => *named == pod.key && facts::may_be_same(e.incarnation, pod.incarnation),
                None => !pod.host_network && pod.ips.contains(&e.ip),
            };
            slice.endpoints.iter().filter(is_pod).map(move |e| (slice, e))
        })
    }

    /// The endpoints on a node that may be no pods.
    pub(crate) fn bare_on(&self, node: &str) -> impl Iterator<Item = (String, IpAddr)> {
        self.slices.values().flat_map(move |slice| {
            let there = slice.endpoints.iter().filter(move |e| e.pod.is_none() && e.node == node);
            there.map(|e| (slice.key.0.clone(), e.ip))
        })
    }

    /// The slices of `namespace` in which `ip` stands alone, where it is no pod's.
    pub(crate) fn of_bare<'a>(
        &'a self,
        namespace: &'a str,
        ip: &'a IpAddr,
    ) -> impl Iterator<Item = (&'a SliceFacts, &'a EndpointFacts)> {
        let slices = self.of_ip.get(ip).filter(|_| !self.pods_at.contains_key(ip));
        let own = slices.into_iter().flatten().filter(move |k| k.0 == namespace);
        own.filter_map(|k| self.slices.get(k)).flat_map(move |slice| {
            let is_it = move |e: &&EndpointFacts| e.pod.is_none() && e.ip == *ip;
            slice.endpoints.iter().filter(is_it).map(move |e| (slice, e))
        })
    }
}

fn relate<K: Clone + Eq + std::hash::Hash>(
    relation: &mut FxHashMap<K, BTreeSet<Key>>,
    from: &K,
    to: &Key,
    add: bool,
) {
    if add {
        relation.entry(from.clone()).or_default().insert(to.clone());
    } else if let Some(set) = relation.get_mut(from) {
        set.remove(to);
        if set.is_empty() {
            relation.remove(from);
        }
    }
}
