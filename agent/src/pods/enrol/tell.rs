//! What the kernel is told: each pod that is enrolled, and what the state of the mesh means for them.

use super::{EnrolError, Enrolled, Enroller};
use crate::{
    app::lock,
    kernel::{Enrolment, EnrolmentFlags, Kernel, LocalPod},
    pods::listeners::Role,
};
use std::os::fd::{AsFd, BorrowedFd};
use weft_ebpf_abi::LISTENER_SLOTS;
use weft_model::Snapshot;

impl Enroller {
    /// Brings the kernel's maps to what `snapshot` says, unless they are there already: with many workloads that is the work
    /// of milliseconds, and this is called each second.
    pub(super) fn tell_kernel(&mut self, snapshot: &Snapshot) {
        let local = self.enrolled.values().map(|e| LocalPod {
            cookie: e.pod.cookie(),
            uid: e.pod.workload.clone(),
            addresses: if e.workload.addresses.is_empty() { e.addresses.clone() } else { Vec::new() },
        });
        let now = (snapshot.version, local.collect::<Vec<_>>());
        let mut kernel = lock(&self.kernel);
        // While another agent writes to the maps, what this one told them need not stand.
        if self.told.as_ref() == Some(&now) && kernel.is_sole_writer() {
            return;
        }
        let error = match kernel.reconcile(snapshot, &self.network, &now.1) {
            Ok(_) => {
                self.told = Some(now);
                None
            }
            Err(error) => {
                self.told = None;
                Some(error.to_string())
            }
        };
        // It is tried again each second, and said once.
        match &error {
            Some(error) if self.map_error.as_ref() != Some(error) => {
                tracing::error!(
                    error,
                    "the kernel's maps are not up to date; connections go through the agent; trying again"
                );
            }
            None if self.map_error.is_some() => tracing::info!("the kernel's maps are up to date again"),
            _ => {}
        }
        self.map_error = error;
    }
}

/// Enrols a pod, or brings it up to date.
pub(super) fn enrol(kernel: &mut Kernel, entry: &Enrolled) -> Result<(), EnrolError> {
    let of = |role: Role| -> Vec<BorrowedFd<'_>> {
        let all = entry.listeners.iter().filter(|(name, _)| name.role == role);
        all.map(|(_, l)| l.as_fd()).take(LISTENER_SLOTS as usize).collect()
    };
    let Some(netns) = entry.pod.netns.fd() else { return Ok(()) };
    Ok(kernel.enrol(&Enrolment {
        netns,
        cookie: entry.pod.cookie(),
        addresses: &entry.addresses,
        outbound: &of(Role::Outbound),
        inbound: &of(Role::Inbound),
        hbone: &of(Role::Hbone),
        flags: EnrolmentFlags { always_encrypt: entry.workload.always_encrypt },
    })?)
}
