//! What repeats across workloads, kept once.

use crate::{Name, Workload, workload::ServicePorts};
use rustc_hash::FxHashSet;
use std::sync::Arc;

/// Values beyond this many of a kind are no longer shared: an upper bound on what a stream of odd ones can hold in memory.
const MAX: usize = 65_536;

/// Makes equal parts of workloads share one allocation each. A pod's replicas differ in little but name and address.
#[derive(Debug, Default)]
pub struct Shared {
    names: FxHashSet<Name>,
    services: FxHashSet<Arc<ServicePorts>>,
}

impl Shared {
    /// Replaces the parts of `w` that were seen before by those.
    pub fn share(&mut self, w: &mut Workload) {
        let locality = &mut w.locality;
        for name in [
            &mut w.namespace,
            &mut w.trust_domain,
            &mut w.service_account,
            &mut w.network,
            &mut w.node,
            &mut w.workload_name,
            &mut w.canonical_name,
            &mut w.canonical_revision,
            &mut w.cluster,
            &mut locality.region,
            &mut locality.zone,
            &mut locality.subzone,
        ] {
            match self.names.get(&**name) {
                Some(known) => *name = known.clone(),
                None if self.names.len() < MAX => {
                    self.names.insert(name.clone());
                }
                None => {}
            }
        }
        match self.services.get(&w.services) {
            Some(known) => w.services = known.clone(),
            None => {
                if self.services.len() >= MAX {
                    self.services.retain(|s| Arc::strong_count(s) > 1);
                }
                if self.services.len() < MAX {
                    self.services.insert(w.services.clone());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ServiceKey, workload::PortMapping};

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
