//! Snapshots: the mesh's state at one instant, immutable and cheap to hold.

mod endpoints;
mod keys;
mod sharded;
mod shared;
mod store;
mod viewpoint;

pub use endpoints::{Endpoint, Endpoints};
pub use sharded::Sharded;
pub use shared::Shared;
pub use store::{Changed, SnapshotStore};
pub use viewpoint::Viewpoint;

use crate::{
    Name, NetworkAddress, NodePod, Policy, PolicyKey, Service, ServiceKey, Workload, policy::PolicyIndex,
};
use keys::{ByAddress, ByPod, ByUid, Pod, Uid};
use std::{collections::BTreeMap, sync::Arc};

/// What an address stands for.
#[derive(Clone, Debug)]
pub enum Target {
    /// A workload's own address.
    Workload(Arc<Workload>),
    /// A service's virtual address.
    Service(Arc<ServiceEntry>),
}

/// A service with its endpoints.
#[derive(Debug)]
pub struct ServiceEntry {
    /// The service.
    pub service: Service,
    /// The workloads behind it.
    pub endpoints: Endpoints,
}

/// DENY and ALLOW policies of one scope, indexed.
#[derive(Debug, Default)]
pub struct PolicySet {
    /// DENY policies that are enforced.
    pub deny: PolicyIndex,
    /// ALLOW policies that are enforced.
    pub allow: PolicyIndex,
    /// Policies in dry run, of both actions.
    pub dry_run: PolicyIndex,
}

/// The mesh's state at one instant. Look-ups are O(1); copies share everything that did not change.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Counts changes; a reader that kept the number knows whether anything is new.
    pub version: u64,
    workloads: Sharded<ByUid, ()>,
    by_pod: Sharded<ByPod, ()>,
    by_address: Sharded<ByAddress, ()>,
    services: Sharded<ServiceKey, Arc<ServiceEntry>>,
    by_vip: Sharded<NetworkAddress, ServiceKey>,
    by_external: Sharded<(NetworkAddress, u16), ServiceKey>,
    policies: Sharded<PolicyKey, Arc<Policy>>,
    global: Arc<PolicySet>,
    by_namespace: Sharded<Name, Arc<PolicySet>>,
    selected: Sharded<Arc<[PolicyKey]>, Arc<PolicySet>>,
    /// By uid. A node has few of them, and only its own.
    node_pods: Arc<BTreeMap<Name, NodePod>>,
}

impl Snapshot {
    /// The workload with this uid.
    pub fn workload(&self, uid: &str) -> Option<&Arc<Workload>> {
        Some(&self.workloads.get_key(&Uid(uid))?.0)
    }

    /// The workload of a pod.
    pub fn workload_of_pod(&self, namespace: &Name, name: &Name) -> Option<&Arc<Workload>> {
        Some(&self.by_pod.get_key(&Pod(namespace, name))?.0)
    }

    /// The workload that owns `address`.
    pub fn workload_at(&self, address: &NetworkAddress) -> Option<&Arc<Workload>> {
        Some(self.by_address.get_key(address)?.workload())
    }

    /// The service whose virtual address `address` is.
    pub fn service_at(&self, address: &NetworkAddress) -> Option<&Arc<ServiceEntry>> {
        self.services.get(self.by_vip.get(address)?)
    }

    /// The service to which an address from outside leads on `port`.
    pub fn external_at(&self, address: &NetworkAddress, port: u16) -> Option<&Arc<ServiceEntry>> {
        // Few meshes have any.
        if self.by_external.is_empty() {
            return None;
        }
        self.services.get(self.by_external.get(&(address.clone(), port))?)
    }

    /// The service that a connection to `address` and `port` is addressed to. What the mesh itself has at an address counts
    /// before what comes from outside.
    pub fn service_reached(&self, address: &NetworkAddress, port: u16) -> Option<&Arc<ServiceEntry>> {
        match self.service_at(address) {
            None if self.workload_at(address).is_none() => self.external_at(address, port),
            found => found,
        }
    }

    /// What `address` stands for; a service's address wins over a workload's, as a VIP is claimed on purpose.
    pub fn target_at(&self, address: &NetworkAddress) -> Option<Target> {
        if let Some(s) = self.service_at(address) {
            return Some(Target::Service(s.clone()));
        }
        self.workload_at(address).cloned().map(Target::Workload)
    }

    /// The service with this key, and its endpoints.
    pub fn service(&self, key: &ServiceKey) -> Option<&Arc<ServiceEntry>> {
        self.services.get(key)
    }

    /// The policy with this key.
    pub fn policy(&self, key: &PolicyKey) -> Option<&Arc<Policy>> {
        self.policies.get(key)
    }

    /// Every workload, in no particular order.
    pub fn workloads(&self) -> impl Iterator<Item = &Arc<Workload>> {
        self.workloads.keys().map(|key| &key.0)
    }

    /// Every service, in no particular order.
    pub fn services(&self) -> impl Iterator<Item = &Arc<ServiceEntry>> {
        self.services.values()
    }

    /// Every policy, in no particular order.
    pub fn policies(&self) -> impl Iterator<Item = &Arc<Policy>> {
        self.policies.values()
    }

    /// The pods that are placed on the node where this is read, by uid.
    pub fn node_pods(&self) -> &Arc<BTreeMap<Name, NodePod>> {
        &self.node_pods
    }

    /// The policy sets that hold for `workload`: global, its namespace's, and those that selected it.
    pub fn policy_sets(&self, workload: &Workload) -> [Option<&PolicySet>; 3] {
        [
            Some(&*self.global),
            self.by_namespace.get(&workload.namespace).map(|s| &**s),
            (!workload.policies.is_empty())
                .then(|| self.selected.get(&*workload.policies).map(|s| &**s))
                .flatten(),
        ]
    }
}
