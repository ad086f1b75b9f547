//! Deltas: what changed, as every configuration source says it.

use crate::{Name, NodePod, Policy, PolicyKey, Service, ServiceKey, Workload, WorkloadUid};
use serde::{Deserialize, Serialize};

/// One change to the mesh's state. A list of them is applied as one step: readers see all of it or nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Delta {
    /// A workload is new or changed.
    Workload(Box<Workload>),
    /// A workload is gone.
    WorkloadGone(WorkloadUid),
    /// A service is new or changed.
    Service(Service),
    /// A service is gone.
    ServiceGone(ServiceKey),
    /// A policy is new or changed.
    Policy(Policy),
    /// A policy is gone.
    PolicyGone(PolicyKey),
    /// A pod is placed on the node that is told of it, or changed.
    NodePod(NodePod),
    /// The pod with this uid is gone, or has run to its end.
    NodePodGone(Name),
}
