//! What repeats across workloads, kept once.

use crate::{
    Name, Workload,
    workload::{Profile, ServicePorts},
};
use rustc_hash::FxHashSet;
use std::{hash::Hash, sync::Arc};

/// Values beyond this many of a kind are no longer shared: an upper bound on what a stream of odd ones can hold in memory.
const MAX: usize = 65_536;

/// Makes equal parts of workloads share one allocation each. A pod's replicas differ in little but name and address.
#[derive(Debug, Default)]
pub struct Shared {
    names: FxHashSet<Name>,
    services: FxHashSet<Arc<ServicePorts>>,
    profiles: FxHashSet<Arc<Profile>>,
}

impl Shared {
    /// Replaces the parts of `w` that were seen before by those.
    pub fn share(&mut self, w: &mut Workload) {
        // A pod that nobody owns is called like itself throughout, and like nobody else.
        let own = w.name.clone();
        for name in [&mut w.node, &mut w.workload_name, &mut w.canonical_name] {
            if *name == own {
                *name = own.clone();
            } else {
                self.share_name(name);
            }
        }
        if let Some(known) = self.profiles.get(&w.profile) {
            w.profile = known.clone();
            return;
        }
        let profile = Arc::make_mut(&mut w.profile);
        for name in [
            &mut profile.namespace,
            &mut profile.trust_domain,
            &mut profile.service_account,
            &mut profile.network,
            &mut profile.canonical_revision,
            &mut profile.cluster,
            &mut profile.locality.region,
            &mut profile.locality.zone,
            &mut profile.locality.subzone,
        ] {
            self.share_name(name);
        }
        share(&mut self.services, &mut profile.services);
        share(&mut self.profiles, &mut w.profile);
    }

    fn share_name(&mut self, name: &mut Name) {
        match self.names.get(&**name) {
            Some(known) => *name = known.clone(),
            None if self.names.len() < MAX => {
                self.names.insert(name.clone());
            }
            None => {}
        }
    }
}

/// Replaces `value` by its equal in `known`, or makes it known; where there is no room, what nobody uses goes first.
fn share<T: Eq + Hash>(known: &mut FxHashSet<Arc<T>>, value: &mut Arc<T>) {
    if let Some(equal) = known.get(value) {
        *value = equal.clone();
        return;
    }
    if known.len() >= MAX {
        known.retain(|other| Arc::strong_count(other) > 1);
    }
    if known.len() < MAX {
        known.insert(value.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ServiceKey,
        workload::{Health, PortMapping},
    };

    fn replica(number: usize) -> Workload {
        let mut w =
            Workload::new(format!("c//Pod/shop/web-{number}"), "shop", format!("web-{number}"), "web");
        let key = ServiceKey { namespace: "shop".into(), hostname: "web.shop.svc.cluster.local".into() };
        let ports = vec![PortMapping { service_port: 80, target_port: 8080 }];
        Arc::make_mut(&mut w.services).insert(key, ports);
        w
    }

    #[test]
    fn replicas_share_what_is_equal_and_keep_what_is_their_own() {
        let (mut first, mut second) = (replica(0), replica(1));
        let whole = second.clone();
        let mut shared = Shared::default();
        shared.share(&mut first);
        shared.share(&mut second);
        assert_eq!(second, whole, "nothing is different to a reader");
        assert!(Arc::ptr_eq(&first.profile, &second.profile));
        assert!(Arc::ptr_eq(&second.name, &second.workload_name), "a pod that nobody owns");
    }

    #[test]
    fn different_profiles_share_what_they_can() {
        let (mut first, mut second) = (replica(0), replica(1));
        second.health = Health::Unhealthy;
        let mut shared = Shared::default();
        shared.share(&mut first);
        shared.share(&mut second);
        assert!(!Arc::ptr_eq(&first.profile, &second.profile));
        assert!(Arc::ptr_eq(&first.services, &second.services));
        assert!(Arc::ptr_eq(&first.service_account, &second.service_account));
    }

    #[test]
    fn a_change_of_one_replica_leaves_the_others_alone() {
        let (mut first, mut second) = (replica(0), replica(1));
        let mut shared = Shared::default();
        shared.share(&mut first);
        shared.share(&mut second);
        Arc::make_mut(&mut second.services).clear();
        assert_eq!(first.services.len(), 1);
    }
}
