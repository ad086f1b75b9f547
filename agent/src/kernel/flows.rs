//! Live connections of enrolled workloads, as the kernel sees them.

use super::{Kernel, KernelError, diag, flow::Flow};
use aya::maps::MapData;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

/// A way into the sockets of each enrolled pod, by cookie.
pub(super) type Diags = Arc<Mutex<BTreeMap<u64, diag::Diag>>>;

/// Reads the live connections.
pub struct Flows {
    diags: Diags,
    states: MapData,
}

impl Kernel {
    /// A reader of live connections.
    pub fn flows(&self) -> Result<Flows, KernelError> {
        Ok(Flows { diags: self.diags.clone(), states: diag::states(&self.pins)? })
    }
}

impl Flows {
    /// Every live connection of the pods that this agent enrolled, in no particular order, with figures of this instant.
    /// Walks the pods' sockets: not for the data path. A pod that does not answer is left out.
    pub fn all(&self) -> Vec<Flow> {
        let mut flows = Vec::new();
        let diags = self.diags.lock().unwrap_or_else(PoisonError::into_inner);
        for (cookie, diag) in diags.iter() {
            if let Err(error) = diag.flows(&self.states, &mut flows) {
                tracing::warn!(%cookie, %error, "cannot read a pod's connections");
            }
        }
        flows
    }
}
