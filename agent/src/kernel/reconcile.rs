//! What the maps should say: computed from a snapshot, compared with what they do say, written where they differ.
//!
//! Three steps, each on its own: [`Desired::of`] (pure), [`Plan::between`] (pure), and applying the plan. Memory holds a
//! mirror of the maps, so that a change of one workload costs a comparison, not thousands of system calls.

mod desired;
mod joins;
mod local;
mod pairs;
mod plain;
mod plan;

pub use desired::Desired;
pub use local::LocalPod;
pub use plan::{Change, Plan};

use super::{Kernel, KernelError, maps::Table, pins::Pins};
use aya::maps::MapInfo;
use weft_ebpf_abi::{
    Addr, Backend, BackendKey, Destination, Endpoint, PairKey, Plain, PlainKey, Service, destination,
};
use weft_model::{Name, Snapshot};

/// The maps, and what they hold.
pub(super) struct Reconciler {
    destinations: Table<Addr, Destination>,
    services: Table<Endpoint, Service>,
    backends: Table<BackendKey, Backend>,
    pairs: Table<PairKey, u32>,
    plain: Table<PlainKey, u32>,
    /// Entries that `DESTINATIONS` has room for.
    room: usize,
    actual: Desired,
}

impl Kernel {
    /// Brings the maps to what `snapshot` says about a node of `network` with these enrolled pods; answers what was
    /// written. To be called before a pod is enrolled, too: what the maps do not know passes untouched.
    ///
    /// One entry that cannot be written stops no other; the first error is told, and the next call tries again. While there
    /// is no room for every address, connections to unknown ones go to the agent, which knows all.
    pub fn reconcile(
        &mut self,
        snapshot: &Snapshot,
        network: &Name,
        pods: &[LocalPod],
    ) -> Result<Plan, KernelError> {
        self.take_over()?;
        let desired = Desired::of(snapshot, network, pods);
        let plan = Plan::between(&self.reconciler.actual, &desired);
        if desired.destinations.len() > self.reconciler.room {
            self.set_incomplete(true)?;
        }
        let written = self.reconciler.apply(&plan);
        self.set_incomplete(!self.reconciler.holds(&plan))?;
        if !plan.is_empty() {
            self.changed()?;
        }
        written.map(|()| plan)
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
            plain: Table::open(pins, "PLAIN")?,
            room: room(pins)?,
            actual: Desired::default(),
        };
        r.actual = Desired {
            destinations: r.destinations.entries().collect(),
            services: r.services.entries().collect(),
            backends: r.backends.entries().collect(),
            pairs: r.pairs.entries().collect(),
            plain: r.plain.entries().collect(),
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
            "PLAIN" => Some(self.actual.plain.len()),
            _ => None,
        }
    }

    /// Forgets who may reach a pod in plaintext: should it come back, that is the agent's to say until it is known again.
    pub(super) fn forget(&mut self, cookie: u64) -> Result<(), KernelError> {
        let (table, mirror) = (&mut self.plain, &mut self.actual.plain);
        let known: Vec<_> = mirror.keys().filter(|key| key.cookie == cookie).copied().collect();
        known.into_iter().try_for_each(|key| take_back(table, mirror, key))
    }

    /// Writes in an order in which no intermediate state lets through what neither the old nor the new one does: a
    /// missing answer sends the connection to the agent, so answers come before what asks for them, and go after it. (For
    /// the order of answers among themselves see [`Plan`].)
    fn apply(&mut self, plan: &Plan) -> Result<(), KernelError> {
        let a = &mut self.actual;
        // An array's elements are all carried out: a map that is full does not keep others from being written.
        [
            answers(&mut self.plain, &mut a.plain, &plan.plain, |k| PlainKey { port: 0, ..k }),
            deletes(&mut self.plain, &mut a.plain, &plan.plain),
            answers(&mut self.pairs, &mut a.pairs, &plan.pairs, |k| PairKey { port: 0, ..k }),
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

impl Reconciler {
    /// Whether the maps have taken all that `plan` had for them, as far as what they lack would pass for outside of the mesh.
    fn holds(&self, plan: &Plan) -> bool {
        let Desired { destinations, services, .. } = &self.actual;
        let is_external =
            |at: &Endpoint| destinations.get(&at.addr).is_some_and(|d| d.flags & destination::EXTERNAL != 0);
        plan.destinations.iter().all(|change| taken(destinations, change))
            && plan.services.iter().all(|change| match change {
                Change::Put(at, _) if is_external(at) => taken(services, change),
                _ => true,
            })
    }
}

/// How many entries `DESTINATIONS` may hold.
fn room(pins: &Pins) -> Result<usize, KernelError> {
    let name = "DESTINATIONS";
    let info = MapInfo::from_pin(pins.map(name)).map_err(KernelError::map(name))?;
    Ok(info.max_entries() as usize)
}

type Mirror<K, V> = rustc_hash::FxHashMap<K, V>;

fn taken<K: Eq + std::hash::Hash, V>(mirror: &Mirror<K, V>, change: &Change<K, V>) -> bool {
    match change {
        Change::Put(key, _) => mirror.contains_key(key),
        Change::Delete(_) => true,
    }
}

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
                Err(error) => {
                    // What it said before may allow what the new value would not.
                    outcome = outcome.and(Err(error));
                    outcome = outcome.and(take_back(table, mirror, key));
                }
            }
        }
    }
    outcome
}

/// As [`puts`], for tables with an answer for each port that a policy names and one, `usual(key)`, for all others. Where the
/// former cannot be written, the latter must not speak for it: it is taken away, and the agent decides.
fn answers<K: Plain + Eq + std::hash::Hash>(
    table: &mut Table<K, u32>,
    mirror: &mut Mirror<K, u32>,
    changes: &[Change<K, u32>],
    usual: impl Fn(K) -> K,
) -> Result<(), KernelError> {
    let mut outcome = Ok(());
    let mut lacking = None;
    for change in changes {
        let Change::Put(key, value) = *change else { continue };
        let rest = usual(key);
        if key == rest && lacking == Some(rest) {
            continue;
        }
        match table.put(key, value) {
            Ok(()) => drop(mirror.insert(key, value)),
            Err(error) => {
                lacking = Some(rest);
                outcome = outcome.and(Err(error));
                outcome = outcome.and(take_back(table, mirror, rest)).and(take_back(table, mirror, key));
            }
        }
    }
    outcome
}

fn take_back<K: Plain + Eq + std::hash::Hash, V: Plain>(
    table: &mut Table<K, V>,
    mirror: &mut Mirror<K, V>,
    key: K,
) -> Result<(), KernelError> {
    table.delete(key)?;
    mirror.remove(&key);
    Ok(())
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
