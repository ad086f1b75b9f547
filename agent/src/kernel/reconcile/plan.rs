//! The difference between what the maps say and what they should.

use super::Desired;
use rustc_hash::FxHashMap;
use std::hash::Hash;
use weft_ebpf_abi::{Addr, Backend, BackendKey, Destination, Endpoint, PairKey, Service};

/// One write to a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change<K, V> {
    /// Set the value of a key.
    Put(K, V),
    /// Remove a key.
    Delete(K),
}

/// The writes, by map, each list in the order of its keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// To `DESTINATIONS`.
    pub destinations: Vec<Change<Addr, Destination>>,
    /// To `SERVICES`.
    pub services: Vec<Change<Endpoint, Service>>,
    /// To `BACKENDS`.
    pub backends: Vec<Change<BackendKey, Backend>>,
    /// To `PAIRS`.
    pub pairs: Vec<Change<PairKey, u32>>,
}

impl Plan {
    /// What turns `actual` into `desired`.
    pub fn between(actual: &Desired, desired: &Desired) -> Self {
        Self {
            destinations: diff(&actual.destinations, &desired.destinations, |k| *k),
            services: diff(&actual.services, &desired.services, |k| *k),
            backends: diff(&actual.backends, &desired.backends, |k| (k.service, k.index)),
            pairs: diff(&actual.pairs, &desired.pairs, |k| (k.source, k.destination, k.port)),
        }
    }

    /// How many writes it is.
    pub fn len(&self) -> usize {
        self.destinations.len() + self.services.len() + self.backends.len() + self.pairs.len()
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn diff<K: Copy + Eq + Hash, V: Copy + PartialEq, O: Ord>(
    actual: &FxHashMap<K, V>,
    desired: &FxHashMap<K, V>,
    order: impl Fn(&K) -> O,
) -> Vec<Change<K, V>> {
    let puts = desired.iter().filter(|(k, v)| actual.get(*k) != Some(*v)).map(|(k, v)| Change::Put(*k, *v));
    let gone = actual.keys().filter(|k| !desired.contains_key(*k)).map(|k| Change::Delete(*k));
    let mut changes: Vec<_> = puts.chain(gone).collect();
    changes.sort_by_cached_key(|change| match change {
        Change::Put(k, _) | Change::Delete(k) => order(k),
    });
    changes
}
