//! Workloads as keys: a table that finds them by something they say of themselves holds nothing but the workload.

use crate::{Name, NetworkAddress, Workload, WorkloadUid};
use hashbrown::Equivalent;
use std::{
    hash::{Hash, Hasher},
    net::IpAddr,
    sync::Arc,
};

/// A workload that is found by its uid.
#[derive(Clone, Debug)]
pub struct ByUid(pub Arc<Workload>);

impl Hash for ByUid {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.uid.hash(state);
    }
}

impl PartialEq for ByUid {
    fn eq(&self, other: &Self) -> bool {
        self.0.uid == other.0.uid
    }
}

impl Eq for ByUid {}

/// A uid to look for.
#[derive(Hash)]
pub struct Uid<'a>(pub &'a str);

impl Equivalent<ByUid> for Uid<'_> {
    fn equivalent(&self, key: &ByUid) -> bool {
        *self.0 == *key.0.uid
    }
}

/// A workload that is found by its pod.
#[derive(Clone, Debug)]
pub struct ByPod(pub Arc<Workload>);

impl ByPod {
    /// What to look for to find it.
    pub fn pod(&self) -> Pod<'_> {
        Pod(&self.0.namespace, &self.0.name)
    }
}

impl Hash for ByPod {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.pod().hash(state);
    }
}

impl PartialEq for ByPod {
    fn eq(&self, other: &Self) -> bool {
        self.pod().equivalent(other)
    }
}

impl Eq for ByPod {}

/// A pod to look for, by namespace and name.
#[derive(Hash)]
pub struct Pod<'a>(pub &'a Name, pub &'a Name);

impl Equivalent<ByPod> for Pod<'_> {
    fn equivalent(&self, key: &ByPod) -> bool {
        *self.0 == key.0.namespace && *self.1 == key.0.name
    }
}

/// A workload that is found by one of its addresses.
#[derive(Clone, Debug)]
pub struct ByAddress {
    workload: Arc<Workload>,
    /// Which one.
    index: usize,
}

impl ByAddress {
    /// One for each of its addresses.
    pub fn all(workload: &Arc<Workload>) -> impl Iterator<Item = Self> {
        (0..workload.addresses.len()).map(|index| Self { workload: workload.clone(), index })
    }

    /// The workload.
    pub fn workload(&self) -> &Arc<Workload> {
        &self.workload
    }

    fn ip(&self) -> IpAddr {
        // As in every NetworkAddress.
        self.workload.addresses[self.index].to_canonical()
    }

    /// Whether it is of the workload with this uid.
    pub fn is_of(&self, uid: &WorkloadUid) -> bool {
        self.workload.uid == *uid
    }
}

impl Hash for ByAddress {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // As a NetworkAddress does, in the order of its fields.
        self.workload.network.hash(state);
        self.ip().hash(state);
    }
}

impl PartialEq for ByAddress {
    fn eq(&self, other: &Self) -> bool {
        self.ip() == other.ip() && self.workload.network == other.workload.network
    }
}

impl Eq for ByAddress {}

impl Equivalent<ByAddress> for NetworkAddress {
    fn equivalent(&self, key: &ByAddress) -> bool {
        self.ip == key.ip() && self.network == key.workload.network
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustc_hash::FxHasher;

    fn hash(value: &(impl Hash + ?Sized)) -> u64 {
        let mut hasher = FxHasher::default();
        value.hash(&mut hasher);
        hasher.finish()
    }

    #[test]
    fn what_is_looked_for_hashes_as_what_is_held() {
        let mut workload = Workload::new("c//Pod/shop/web-0", "shop", "web-0", "web");
        workload.network = "net1".into();
        workload.addresses = vec!["10.0.0.1".parse().unwrap(), "::ffff:10.0.0.2".parse().unwrap()];
        let workload = Arc::new(workload);
        assert_eq!(hash(&Uid("c//Pod/shop/web-0")), hash(&ByUid(workload.clone())));
        let pod = (Name::from("shop"), Name::from("web-0"));
        assert_eq!(hash(&Pod(&pod.0, &pod.1)), hash(&ByPod(workload.clone())));
        let addresses: Vec<_> = workload.network_addresses().collect();
        for (address, key) in addresses.iter().zip(ByAddress::all(&workload)) {
            assert_eq!(hash(address), hash(&key));
            assert!(address.equivalent(&key) && key.is_of(&workload.uid));
        }
    }
}
