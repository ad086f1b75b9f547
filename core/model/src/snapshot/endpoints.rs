//! The endpoints of one service, picked from without looking at all of them.

use crate::{Workload, service::LocalityMode, workload::Health};
use rustc_hash::FxBuildHasher;
use std::{
    hash::{BuildHasher as _, Hash},
    ops::Range,
    sync::Arc,
};

/// One workload behind a service.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// The workload.
    pub workload: Arc<Workload>,
}

/// The workloads behind one service, those that are ready first.
#[derive(Clone, Debug, Default)]
pub struct Endpoints {
    all: Vec<Endpoint>,
    /// Those of `all` that new connections go to.
    picked: Range<usize>,
    /// None of these is ready; they are told to end and still serve.
    last_resort: bool,
}

impl Endpoints {
    /// Arranges `all`: `far` tells how much an endpoint lacks to be as near as can be, `health` whether it takes new
    /// connections.
    ///
    /// As kube-proxy does it, endpoints that are told to end and still serve take new connections where no ready one is
    /// left: none at all, or, where only the nearest count, none there. Which of them is near matters only where no other may be used.
    pub fn new(
        mut all: Vec<Endpoint>,
        mode: LocalityMode,
        far: impl Fn(&Workload) -> usize,
        health: impl Fn(&Workload) -> Health,
    ) -> Self {
        all.sort_by_cached_key(|e| (health(&e.workload), far(&e.workload), e.workload.uid.clone()));
        let ready = all.partition_point(|e| health(&e.workload) == Health::Healthy);
        let serving = all.partition_point(|e| health(&e.workload) <= Health::Draining);
        // Each class is sorted by distance.
        let within = |class: Range<usize>, most: usize| {
            let end = class.start + all[class.clone()].partition_point(|e| far(&e.workload) <= most);
            class.start..end
        };
        let (first, last) = match mode {
            LocalityMode::Any => (0..ready, ready..serving),
            LocalityMode::Strict => (within(0..ready, 0), within(ready..serving, 0)),
            LocalityMode::Failover => {
                let nearest = all[..ready].first().map_or(0, |e| far(&e.workload));
                (within(0..ready, nearest), ready..serving)
            }
        };
        let last_resort = first.is_empty();
        Self { all, picked: if last_resort { last } else { first }, last_resort }
    }

    /// Every endpoint, also those that take no new connections.
    pub fn all(&self) -> &[Endpoint] {
        &self.all
    }

    /// The endpoints that a new connection may be sent to.
    pub fn pickable(&self) -> &[Endpoint] {
        &self.all[self.picked.clone()]
    }

    /// Whether those that new connections go to are told to end, as no other is left.
    pub fn is_last_resort(&self) -> bool {
        self.last_resort && !self.picked.is_empty()
    }

    /// Whether new connections go to endpoints of this health.
    pub fn takes(&self, health: Health) -> bool {
        match health {
            Health::Healthy => !self.last_resort,
            Health::Draining => self.last_resort,
            Health::Unhealthy => false,
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

    /// Picks an endpoint for which `usable` holds, the same one for the same client while it is one that may be picked,
    /// whoever comes and goes beside it: the highest of a client's random ranks. Looks at all of them.
    pub fn pick_for(
        &self,
        client: impl Hash + Copy,
        usable: impl Fn(&Endpoint) -> bool,
    ) -> Option<&Endpoint> {
        let rank = |e: &&Endpoint| mix(FxBuildHasher.hash_one((client, &e.workload.uid)));
        self.pickable().iter().filter(|e| usable(e)).max_by_key(rank)
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
