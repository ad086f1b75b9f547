//! The endpoints of one service, picked from without looking at all of them.

use crate::{Workload, service::LocalityMode};
use std::sync::Arc;

/// One workload behind a service.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// The workload.
    pub workload: Arc<Workload>,
}

/// The workloads behind one service, those that may be picked first.
#[derive(Clone, Debug, Default)]
pub struct Endpoints {
    all: Vec<Endpoint>,
    /// How many of `all`, from its start, take new connections.
    pickable: usize,
    /// Of those, how many are preferred by locality (they come first), and how strictly.
    near: usize,
    mode: LocalityMode,
}

impl Endpoints {
    /// Arranges `all`: `near` tells whether an endpoint is preferred, `ready` whether it takes new connections.
    pub fn new(
        mut all: Vec<Endpoint>,
        mode: LocalityMode,
        near: impl Fn(&Workload) -> bool,
        ready: impl Fn(&Workload) -> bool,
    ) -> Self {
        let class = |e: &Endpoint| match (ready(&e.workload), near(&e.workload)) {
            (true, true) => 0,
            (true, false) => 1,
            (false, _) => 2,
        };
        all.sort_by_cached_key(|e| (class(e), e.workload.uid.clone()));
        let pickable = all.iter().take_while(|e| class(e) < 2).count();
        let near = all.iter().take_while(|e| class(e) == 0).count();
        Self { all, pickable, near, mode }
    }

    /// Every endpoint, also those that take no new connections.
    pub fn all(&self) -> &[Endpoint] {
        &self.all
    }

    /// The endpoints that a new connection may be sent to.
    pub fn pickable(&self) -> &[Endpoint] {
        match self.mode {
            LocalityMode::Any => &self.all[..self.pickable],
            LocalityMode::Strict => &self.all[..self.near],
            LocalityMode::Failover if self.near > 0 => &self.all[..self.near],
            LocalityMode::Failover => &self.all[..self.pickable],
        }
    }

    /// Picks an endpoint for which `usable` holds, all of them alike; `rand` chooses. The cost does not grow with the number
    /// of endpoints unless most are unusable.
    pub fn pick(&self, rand: u64, usable: impl Fn(&Endpoint) -> bool) -> Option<&Endpoint> {
        /// Draws before the usable ones are counted instead.
        const DRAWS: usize = 8;
        let from = self.pickable();
        if from.is_empty() {
            return None;
        }
        let mut random = rand;
        for _ in 0..DRAWS {
            let drawn = &from[place(random, from.len())];
            if usable(drawn) {
                return Some(drawn);
            }
            random = mix(random);
        }
        let count = from.iter().filter(|e| usable(e)).count();
        from.iter().filter(|e| usable(e)).nth(place(random, count))
    }
}

/// A place among `count`, each as likely as the next.
fn place(random: u64, count: usize) -> usize {
    ((u128::from(random) * count as u128) >> 64) as usize
}

/// Another random number out of one: the steps of SplitMix64.
fn mix(random: u64) -> u64 {
    let x = random.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
