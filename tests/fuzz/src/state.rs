//! What a list of deltas amounts to, in a form that can be compared.

use std::collections::BTreeMap;
use weft_model::{Delta, Name, NodePod, Policy, PolicyKey, Service, ServiceKey, Workload, WorkloadUid};

/// Everything that is there.
#[derive(Debug, Default, PartialEq)]
pub struct State {
    workloads: BTreeMap<WorkloadUid, Workload>,
    services: BTreeMap<ServiceKey, Service>,
    policies: BTreeMap<PolicyKey, Policy>,
    node_pods: BTreeMap<Name, NodePod>,
}

impl State {
    /// Follows one delta; taking away what is not there is an error of whoever says so.
    pub fn apply(&mut self, delta: Delta) {
        let was_there = match delta {
            Delta::Workload(w) => {
                self.workloads.insert(w.uid.clone(), *w);
                true
            }
            Delta::Service(s) => {
                self.services.insert(s.key.clone(), s);
                true
            }
            Delta::Policy(p) => {
                self.policies.insert(p.key.clone(), p);
                true
            }
            Delta::NodePod(p) => {
                self.node_pods.insert(p.uid.clone(), p);
                true
            }
            Delta::WorkloadGone(uid) => self.workloads.remove(&uid).is_some(),
            Delta::ServiceGone(key) => self.services.remove(&key).is_some(),
            Delta::PolicyGone(key) => self.policies.remove(&key).is_some(),
            Delta::NodePodGone(uid) => self.node_pods.remove(&uid).is_some(),
        };
        assert!(was_there, "something is taken away that was never told");
    }
}
