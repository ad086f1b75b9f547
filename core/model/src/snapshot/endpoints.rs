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
    /// Of those, how many are nearest (they come first).
    nearest: usize,
    /// Whether these share every scope that is asked for, and how strictly it is asked.
    near: bool,
    mode: LocalityMode,
}

impl Endpoints {
    /// Arranges `all`: `far` tells how much an endpoint lacks to be as near as can be, `ready` whether it takes new connections.
    pub fn new(
        mut all: Vec<Endpoint>,
        mode: LocalityMode,
        far: impl Fn(&Workload) -> usize,
        ready: impl Fn(&Workload) -> bool,
    ) -> Self {
        let class = |e: &Endpoint| if ready(&e.workload) { far(&e.workload) } else { usize::MAX };
        all.sort_by_cached_key(|e| (class(e), e.workload.uid.clone()));
        let pickable = all.iter().take_while(|e| class(e) < usize::MAX).count();
        let best = all.first().map_or(usize::MAX, &class);
        let nearest = all[..pickable].iter().take_while(|e| class(e) == best).count();
        Self { all, pickable, nearest, near: best == 0, mode }
    }

    /// Every endpoint, also those that take no new connections.
    pub fn all(&self) -> &[Endpoint] {
        &self.all
    }

    /// The endpoints that a new connection may be sent to.
    pub fn pickable(&self) -> &[Endpoint] {
        match self.mode {
            LocalityMode::Any => &self.all[..self.pickable],
            LocalityMode::Strict if !self.near => &[],
            LocalityMode::Strict | LocalityMode::Failover => &self.all[..self.nearest],
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
