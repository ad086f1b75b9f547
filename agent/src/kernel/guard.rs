//! The guard: what keeps a pod from sending into the mesh before it is known whether the pod takes part.
//!
//! Pods that do are in `WORKLOADS`, those that do not in `OUTSIDE`; a pod of the kubelet's cgroup that is in neither is not
//! classified.

use super::{Kernel, KernelError, attach, maps::Table, pins::Pins};
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};
use rustc_hash::FxHashSet;
use std::{collections::BTreeSet, path::Path};
use weft_ebpf_abi::config;

/// What a pod that is not classified is kept from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guarded {
    /// What leads into the mesh.
    Mesh,
    /// Everything but itself.
    All,
}

/// The pods that are known not to take part.
pub(super) struct Outside {
    table: Table<u64, u32>,
    known: FxHashSet<u64>,
}

impl Outside {
    /// Opens the map, and reads what an earlier agent left in it.
    pub(super) fn open(pins: &Pins) -> Result<Self, KernelError> {
        let table = Table::open(pins, "OUTSIDE")?;
        let known = table.entries().map(|(cookie, _)| cookie).collect();
        Ok(Self { table, known })
    }
}

impl Kernel {
    /// Lets pods pass that do not take part in the mesh, besides those that pass already. One that cannot be written stops
    /// no other; the first error is told.
    pub fn pass(&mut self, cookies: &BTreeSet<u64>) -> Result<(), KernelError> {
        let mut done = Ok(());
        for cookie in cookies {
            if self.outside.known.contains(cookie) {
                continue;
            }
            match self.outside.table.put(*cookie, 1) {
                Ok(()) => drop(self.outside.known.insert(*cookie)),
                Err(error) => done = done.and(Err(error)),
            }
        }
        done
    }

    /// Lets no others pass than these: pods that are gone, or take part by now.
    pub fn pass_only(&mut self, cookies: &BTreeSet<u64>) -> Result<(), KernelError> {
        let gone: Vec<u64> = self.outside.known.iter().filter(|c| !cookies.contains(c)).copied().collect();
        for cookie in gone {
            self.outside.table.delete(cookie)?;
            self.outside.known.remove(&cookie);
        }
        Ok(())
    }

    /// Guards the pods below `kubepods`, from its return on also while no agent runs. The pods that run already are to be
    /// classified before.
    pub fn guard(&mut self, kubepods: &Path, guarded: Guarded) -> Result<(), KernelError> {
        let kind = statfs(kubepods).map_err(|e| KernelError::file("look at", kubepods)(e.into()))?;
        if kind.filesystem_type() != CGROUP2_SUPER_MAGIC {
            return Err(KernelError::GuardNeedsV2 { path: kubepods.to_owned() });
        }
        self.set_flag(config::GUARD_ALL, guarded == Guarded::All)?;
        attach::guard(&mut self.loader, &self.pins, kubepods, guarded == Guarded::All)
    }

    /// Whether what [`Kernel::guard`] attached is attached to this very cgroup: the kubelet may have made it anew, or another.
    pub fn is_guarding(&self, kubepods: &Path) -> bool {
        attach::is_guarding(&self.pins, kubepods)
    }

    /// Guards nothing any more.
    pub fn unguard(&mut self) -> Result<(), KernelError> {
        attach::unguard(&self.pins)
    }
}
