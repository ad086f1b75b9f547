//! The difference between what the maps say and what they should.

use super::Desired;
use rustc_hash::FxHashMap;
use std::{
    cmp::Reverse,
    fmt,
    hash::Hash,
    net::{IpAddr, SocketAddr},
};
use weft_ebpf_abi::{Addr, Backend, BackendKey, Destination, Endpoint, PairKey, PlainKey, Service};

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
    /// To `PAIRS`. Of one pair, port 0 comes last: it stands for every port that has no answer of its own.
    pub pairs: Vec<Change<PairKey, u32>>,
    /// To `PLAIN`. Of one pod, port 0 comes last.
    pub plain: Vec<Change<PlainKey, u32>>,
}

impl Plan {
    /// What turns `actual` into `desired`.
    pub fn between(actual: &Desired, desired: &Desired) -> Self {
        Self {
            destinations: diff(&actual.destinations, &desired.destinations, |k| *k),
            services: diff(&actual.services, &desired.services, |k| *k),
            backends: diff(&actual.backends, &desired.backends, |k| (k.service, k.index)),
            pairs: diff(&actual.pairs, &desired.pairs, |k| (k.source, k.destination, Reverse(k.port))),
            plain: diff(&actual.plain, &desired.plain, |k| (k.cookie, Reverse(k.port))),
        }
    }

    /// How many writes it is.
    pub fn len(&self) -> usize {
        self.destinations.len()
            + self.services.len()
            + self.backends.len()
            + self.pairs.len()
            + self.plain.len()
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// One write a line, in the order of the lists.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write(
            f,
            "destination",
            &self.destinations,
            |k| IpAddr::from(*k).to_string(),
            |v| format!("cookie {} kind {} flags {}", v.cookie, v.kind, v.flags),
        )?;
        write(
            f,
            "service",
            &self.services,
            |k| SocketAddr::from(*k).to_string(),
            |v| format!("total {} local {} flags {}", v.total, v.local, v.flags),
        )?;
        let backend = |k: &BackendKey| format!("{}#{}", SocketAddr::from(k.service), k.index);
        write(f, "backend", &self.backends, backend, |v| SocketAddr::from(*v).to_string())?;
        let pair = |k: &PairKey| format!("{}->{}:{}", k.source, k.destination, k.port);
        write(f, "pair", &self.pairs, pair, u32::to_string)?;
        write(f, "plain", &self.plain, |k| format!("{}:{}", k.cookie, k.port), u32::to_string)
    }
}

fn write<K, V>(
    f: &mut fmt::Formatter<'_>,
    map: &str,
    changes: &[Change<K, V>],
    key: impl Fn(&K) -> String,
    value: impl Fn(&V) -> String,
) -> fmt::Result {
    changes.iter().try_for_each(|change| match change {
        Change::Put(k, v) => writeln!(f, "put {map} {}: {}", key(k), value(v)),
        Change::Delete(k) => writeln!(f, "delete {map} {}", key(k)),
    })
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
