//! The pods of this node.

use std::{net::IpAddr, sync::Arc};
use weft_model::{Workload, WorkloadUid};

/// A pod that is enrolled on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalPod {
    /// The cookie of its namespace.
    pub cookie: u64,
    /// The workload it is.
    pub uid: WorkloadUid,
    /// Addresses that it has in its namespace, while the mesh knows none of it.
    pub addresses: Vec<IpAddr>,
}

/// A local pod with its workload.
pub(super) struct Local<'a> {
    pub(super) pod: &'a LocalPod,
    pub(super) workload: &'a Arc<Workload>,
}
