//! What the client holds: the name, version and nature of every resource, and how a response changes that.

use crate::discovery::{
    cache::Cached,
    convert::{self, Entity, Kind, Refused},
    proto::discovery::DeltaDiscoveryResponse,
};
use rustc_hash::FxHashMap;
use std::{
    collections::BTreeMap,
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
};
use weft_model::{Delta, Name, snapshot::Shared};

/// One resource that is held.
#[derive(Debug)]
struct Entry {
    entity: Entity,
    version: Version,
}

/// The version of a resource, as the server gave it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Version {
    /// Sixteen hexadecimal digits, as Weft's own server gives them: there is one for every workload of the mesh.
    Hash(u64),
    /// Anything else.
    Text(Box<str>),
}

impl From<&str> for Version {
    fn from(text: &str) -> Self {
        let hash = u64::from_str_radix(text, 16).ok().map(Self::Hash);
        // Only what is told again as it was.
        hash.filter(|hash| hash.to_string() == text).unwrap_or_else(|| Self::Text(text.into()))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hash(hash) => write!(f, "{hash:016x}"),
            Self::Text(text) => f.write_str(text),
        }
    }
}

/// Every resource that is held.
#[derive(Debug, Default)]
pub(super) struct Held {
    addresses: FxHashMap<Name, Entry>,
    policies: FxHashMap<Name, Entry>,
    node_pods: FxHashMap<Name, Entry>,
}

/// Locks `held`; nothing in here can leave it half-changed.
pub(super) fn lock(held: &Mutex<Held>) -> MutexGuard<'_, Held> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Held {
    fn of(&self, kind: Kind) -> &FxHashMap<Name, Entry> {
        match kind {
            Kind::Address => &self.addresses,
            Kind::Authorization => &self.policies,
            Kind::NodePod => &self.node_pods,
        }
    }

    fn of_mut(&mut self, kind: Kind) -> &mut FxHashMap<Name, Entry> {
        match kind {
            Kind::Address => &mut self.addresses,
            Kind::Authorization => &mut self.policies,
            Kind::NodePod => &mut self.node_pods,
        }
    }

    /// Takes over what the cache held.
    pub(super) fn restore(&mut self, cached: &Cached) {
        for delta in &cached.deltas {
            let (entity, name) = convert::name_of(delta);
            self.of_mut(convert::kind_of(delta)).insert(name, Entry { entity, version: Version::from("") });
        }
        for (kind, name, version) in &cached.versions {
            if let Some(entry) = self.of_mut(*kind).get_mut(name.as_str()) {
                entry.version = version.as_str().into();
            }
        }
    }

    /// Names and versions of one kind, for the first request of a stream. A resource without a version is named too: the
    /// server must know of it to say that it is gone.
    pub(super) fn versions(&self, kind: Kind) -> BTreeMap<String, String> {
        self.of(kind).iter().map(|(name, e)| (name.to_string(), e.version.to_string())).collect()
    }

    /// What `response` changes. A refused resource leaves the one that is held as it is.
    pub(super) fn take(
        &mut self,
        kind: Kind,
        response: DeltaDiscoveryResponse,
    ) -> (Vec<Delta>, Vec<Refused>) {
        let held = self.of_mut(kind);
        let mut deltas = Vec::with_capacity(response.resources.len() + response.removed_resources.len());
        let mut refused = Vec::new();
        // Before the next one is decoded, so that its short-lived parts take the place of this one's.
        let mut shared = Shared::default();
        for name in response.removed_resources {
            deltas.extend(held.remove(name.as_str()).and_then(|old| convert::gone(old.entity, &name)));
        }
        for resource in response.resources {
            let mut delta = match convert::decode(kind, &resource) {
                Ok(delta) => delta,
                Err(e) => {
                    refused.push(e);
                    continue;
                }
            };
            if let Delta::Workload(workload) = &mut delta {
                shared.share(workload);
            }
            let (entity, name) = convert::name_of(&delta);
            let old = held.insert(name.clone(), Entry { entity, version: resource.version.as_str().into() });
            if let Some(old) = old.filter(|old| old.entity != entity) {
                deltas.extend(convert::gone(old.entity, &name));
            }
            deltas.push(delta);
        }
        (deltas, refused)
    }
}

/// The versions of everything at one instant.
#[derive(Debug)]
pub(super) struct Versions {
    addresses: FxHashMap<Name, Version>,
    policies: FxHashMap<Name, Version>,
    node_pods: FxHashMap<Name, Version>,
}

impl Versions {
    pub(super) fn get(&self, kind: Kind, name: &str) -> Option<String> {
        let versions = match kind {
            Kind::Address => &self.addresses,
            Kind::Authorization => &self.policies,
            Kind::NodePod => &self.node_pods,
        };
        versions.get(name).map(|v| v.to_string())
    }
}

impl Held {
    pub(super) fn all_versions(&self) -> Versions {
        let versions = |held: &FxHashMap<Name, Entry>| {
            held.iter().map(|(name, e)| (name.clone(), e.version.clone())).collect()
        };
        Versions {
            addresses: versions(&self.addresses),
            policies: versions(&self.policies),
            node_pods: versions(&self.node_pods),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Version;

    #[test]
    fn a_version_is_told_again_as_it_was() {
        for (text, is_hash) in [
            ("00f3a5c27d91be04", true),
            ("", false),
            ("F3", false),
            ("+0f3a5c27d91be04", false),
            ("v1", false),
        ] {
            let version = Version::from(text);
            assert_eq!(version.to_string(), text);
            assert_eq!(matches!(version, Version::Hash(_)), is_hash, "{text}");
        }
        assert_eq!(size_of::<Version>(), 16);
    }
}
