//! A pod that the agent serves.

use super::{Netns, PodSpec};
use std::sync::Arc;
use weft_model::{Snapshot, Workload, WorkloadUid};

/// A pod of this node that is in the mesh: its namespace, and which workload it is.
#[derive(Debug)]
pub struct Pod {
    /// How the source named it.
    pub spec: PodSpec,
    /// Its network namespace.
    pub netns: Netns,
    /// The workload that it is.
    pub workload: WorkloadUid,
}

impl Pod {
    /// What the mesh knows of it now; `None` when it has left.
    pub fn workload<'s>(&self, snapshot: &'s Snapshot) -> Option<&'s Arc<Workload>> {
        snapshot.workload(&self.workload)
    }

    /// The number by which the kernel knows it.
    pub fn cookie(&self) -> u64 {
        self.netns.cookie()
    }
}
