//! The nodes that are connected, and how they fare.

use serde::Serialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};
use weft_io::discovery::skew::Skew;

/// One connected node proxy.
#[derive(Clone, Debug, Serialize)]
pub struct Agent {
    /// The node, as it proved to be.
    pub node: String,
    /// The name that it gives itself.
    pub id: String,
    /// The version that it says it is of, where it is one of Weft's agents.
    pub version: Option<String>,
    /// How far that is from control's own.
    pub skew: Skew,
    /// Types that it subscribed to and that this control does not know: it is newer.
    pub unknown_types: BTreeSet<String>,
    /// Since when.
    pub since: SystemTime,
    /// Responses sent.
    pub sent: u64,
    /// Responses acknowledged.
    pub acknowledged: u64,
    /// Whether it says that it is ready to carry its pods.
    pub ready: bool,
    /// Responses refused, at least in part.
    pub refused: u64,
    /// What it said when it last refused.
    pub last_refusal: Option<String>,
}

/// Everyone who is connected.
#[derive(Debug, Default)]
pub struct Agents {
    agents: Mutex<(u64, BTreeMap<u64, Agent>)>,
}

/// One connection's entry, gone when this is dropped.
#[derive(Debug)]
pub struct Entry {
    agents: Arc<Agents>,
    key: u64,
}

impl Agents {
    /// Everyone who is connected now.
    pub fn list(&self) -> Vec<Agent> {
        self.lock().1.values().cloned().collect()
    }

    /// The nodes whose agents say that they are ready, and have answered all that they were sent.
    pub fn ready(&self) -> BTreeSet<String> {
        let agents = self.lock();
        let ready = agents.1.values().filter(|a| a.ready && a.acknowledged + a.refused == a.sent);
        ready.map(|a| a.node.clone()).collect()
    }

    /// How many are connected.
    pub fn count(&self) -> usize {
        self.lock().1.len()
    }

    /// Adds a connection.
    pub fn enter(self: &Arc<Self>, node: String) -> Entry {
        let agent = Agent {
            node,
            id: String::new(),
            version: None,
            skew: Skew::Unknown,
            unknown_types: BTreeSet::new(),
            since: SystemTime::now(),
            sent: 0,
            acknowledged: 0,
            ready: false,
            refused: 0,
            last_refusal: None,
        };
        let mut agents = self.lock();
        agents.0 += 1;
        let key = agents.0;
        agents.1.insert(key, agent);
        Entry { agents: self.clone(), key }
    }

    fn lock(&self) -> MutexGuard<'_, (u64, BTreeMap<u64, Agent>)> {
        self.agents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    /// How many are connected, this one included.
    pub fn count(&self) -> usize {
        self.agents.count()
    }

    /// Notes something about the connection.
    pub fn note(&self, change: impl FnOnce(&mut Agent)) {
        if let Some(agent) = self.agents.lock().1.get_mut(&self.key) {
            change(agent);
        }
    }
}

#[cfg(test)]
impl Entry {
    /// Somebody else who is connected.
    pub(super) fn beside(&self, node: String) -> Entry {
        self.agents.enter(node)
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.agents.lock().1.remove(&self.key);
    }
}
