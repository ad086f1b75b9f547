//! What the maps should say: computed from a snapshot, compared with what they do say, written where they differ.
//!
//! Three steps, each on its own: [`Desired::of`] (pure), [`Plan::between`] (pure), and applying the plan. Memory holds a
//! mirror of the maps, so that a change of one workload costs a comparison, not thousands of system calls.

mod desired;
mod joins;
mod pairs;
mod plan;

pub use desired::{Desired, LocalPod};
pub use plan::{Change, Plan};

use super::{Kernel, KernelError, maps::Table, pins::Pins};
use weft_ebpf_abi::{Addr, Backend, BackendKey, Destination, Endpoint, PairKey, Plain, Service};
use weft_model::{Name, Snapshot};

/// The maps, and what they hold.
pub(super) struct Reconciler {
    destinations: Table<Addr, Destination>,
    services: Table<Endpoint, Service>,
    backends: Table<BackendKey, Backend>,
    pairs: Table<PairKey, u32>,
    actual: Desired,
}

impl Kernel {
    /// Brings the maps to what `snapshot` says about a node of `network` with these enrolled pods; answers what was
    /// written. To be called before a pod is enrolled, too: what the maps do not know passes untouched.
    ///
    /// One entry that cannot be written stops no other; the first error is told, and the next call tries again.
    pub fn reconcile(
        &mut self,
        snapshot: &Snapshot,
        network: &Name,
        pods: &[LocalPod],
    ) -> Result<Plan, KernelError> {
        let plan = Plan::between(&self.reconciler.actual, &Desired::of(snapshot, network, pods));
        self.reconciler.apply(&plan)?;
        Ok(plan)
    }
}

impl Reconciler {
    /// Opens the maps, and reads what an earlier agent left in them.
    pub(super) fn open(pins: &Pins) -> Result<Self, KernelError> {
        let mut r = Self {
            destinations: Table::open(pins, "DESTINATIONS")?,
            services: Table::open(pins, "SERVICES")?,
            backends: Table::open(pins, "BACKENDS")?,
            pairs: Table::open(pins, "PAIRS")?,
            actual: Desired::default(),
        };
        r.actual = Desired {
            destinations: r.destinations.entries().collect(),
            services: r.services.entries().collect(),
            backends: r.backends.entries().collect(),
            pairs: r.pairs.entries().collect(),
        };
        Ok(r)
    }

    /// How many entries a map of the mesh holds, without walking it.
    pub(super) fn entries(&self, map: &str) -> Option<usize> {
        match map {
            "DESTINATIONS" => Some(self.actual.destinations.len()),
            "SERVICES" => Some(self.actual.services.len()),
            "BACKENDS" => Some(self.actual.backends.len()),
            "PAIRS" => Some(self.actual.pairs.len()),
            _ => None,
        }
    }

    /// Writes in an order in which no intermediate state lets through what neither the old nor the new one does: a
    /// missing answer sends the connection to the agent, so answers come before what asks for them, and go after it.
    fn apply(&mut self, plan: &Plan) -> Result<(), KernelError> {
        let a = &mut self.actual;
        // An array's elements are all carried out: a map that is full does not keep others from being written.
        [
            put_pairs(&mut self.pairs, &mut a.pairs, &plan.pairs),
            puts(&mut self.destinations, &mut a.destinations, &plan.destinations),
            puts(&mut self.backends, &mut a.backends, &plan.backends),
            puts(&mut self.services, &mut a.services, &plan.services),
            deletes(&mut self.services, &mut a.services, &plan.services),
            deletes(&mut self.backends, &mut a.backends, &plan.backends),
            deletes(&mut self.destinations, &mut a.destinations, &plan.destinations),
            deletes(&mut self.pairs, &mut a.pairs, &plan.pairs),
        ]
        .into_iter()
        .collect()
    }
}

type Mirror<K, V> = rustc_hash::FxHashMap<K, V>;

fn puts<K: Plain + Eq + std::hash::Hash, V: Plain>(
    table: &mut Table<K, V>,
    mirror: &mut Mirror<K, V>,
    changes: &[Change<K, V>],
) -> Result<(), KernelError> {
    let mut outcome = Ok(());
    for change in changes {
        if let Change::Put(key, value) = *change {
            match table.put(key, value) {
                Ok(()) => drop(mirror.insert(key, value)),
                Err(error) => outcome = outcome.and(Err(error)),
            }
        }
    }
    outcome
}

/// Writes answers so that none of them ever speaks for a port that has, or should have, one of its own: what cannot be
/// written is taken away, and port 0 of that pair with it. The agent decides then.
fn put_pairs(
    table: &mut Table<PairKey, u32>,
    mirror: &mut Mirror<PairKey, u32>,
    changes: &[Change<PairKey, u32>],
) -> Result<(), KernelError> {
    let mut outcome = Ok(());
    let mut lacking = None;
    for change in changes {
        let Change::Put(key, value) = *change else { continue };
        let rest = PairKey { port: 0, ..key };
        if key == rest && lacking == Some(rest) {
            continue;
        }
        match table.put(key, value) {
            Ok(()) => drop(mirror.insert(key, value)),
            Err(error) => {
                lacking = Some(rest);
                outcome = outcome.and(Err(error));
                for stale in [key, rest] {
                    outcome = outcome.and(table.delete(stale));
                    mirror.remove(&stale);
                }
            }
        }
    }
    outcome
}

/// In the reverse order of [`puts`]: what speaks for others goes before them.
fn deletes<K: Plain + Eq + std::hash::Hash, V: Plain>(
    table: &mut Table<K, V>,
    mirror: &mut Mirror<K, V>,
    changes: &[Change<K, V>],
) -> Result<(), KernelError> {
    let mut outcome = Ok(());
    for change in changes.iter().rev() {
        if let Change::Delete(key) = *change {
            match table.delete(key) {
                Ok(()) => drop(mirror.remove(&key)),
                Err(error) => outcome = outcome.and(Err(error)),
            }
        }
    }
    outcome
}

#[cfg(test)]
mod tests;
