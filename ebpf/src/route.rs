//! Which way a connection of an enrolled workload goes.

use weft_ebpf_abi::{
    Addr, ArrivalKey, Backend, BackendKey, Destination, Endpoint, PairKey, Service, destination, pair,
    service, verdict, workload,
};

/// What the decision may look up. The programs answer from their maps, the tests from tables.
pub trait World {
    /// `DESTINATIONS`.
    fn destination(&self, addr: &Addr) -> Option<Destination>;
    /// `SERVICES`.
    fn service(&self, at: &Endpoint) -> Option<Service>;
    /// `BACKENDS`.
    fn backend(&self, key: &BackendKey) -> Option<Backend>;
    /// `PAIRS`.
    fn pair(&self, key: &PairKey) -> Option<u32>;
    /// Whether there may be destinations of the mesh that [`World::destination`] does not know (see
    /// [`weft_ebpf_abi::config::INCOMPLETE`]).
    fn is_incomplete(&self) -> bool;
    /// See [`weft_ebpf_abi::Config::changed_ns`].
    fn changed_ns(&self) -> u64;
    /// The flags of an enrolled workload (see [`workload`]).
    fn flags(&self, cookie: u64) -> Option<u32>;
    /// A random number.
    fn random(&self) -> u32;
}

/// Who connects.
#[derive(Clone, Copy, Debug)]
pub struct Source {
    /// Its cookie.
    pub cookie: u64,
    /// See [`workload`].
    pub flags: u32,
}

/// The way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// See [`verdict`].
    pub verdict: u32,
    /// The cookie of the workload that is reached directly, or was refused; else 0.
    pub destination: u64,
    /// The service endpoint that was picked; port 0 for none.
    pub backend: Endpoint,
    /// The pick fell on an endpoint elsewhere, which the agent shall choose.
    pub remote_only: bool,
}

const NOWHERE: Endpoint = Endpoint::new(Addr { words: [0; 4] }, 0);

impl Route {
    const fn new(verdict: u32) -> Self {
        Self { verdict, destination: 0, backend: NOWHERE, remote_only: false }
    }
}

/// What the mesh has at `to`.
#[inline(always)]
pub(crate) fn known<W: World>(world: &W, to: &Endpoint) -> Option<Destination> {
    let known = world.destination(&to.addr)?;
    if known.flags & destination::EXTERNAL != 0 && world.service(to).is_none() {
        return None;
    }
    Some(known)
}

/// Decides the way of a connection of `source` to `to`.
#[inline(always)]
pub fn route<W: World>(world: &W, source: Source, to: Endpoint) -> Route {
    if to.addr.is_loopback() || to.addr.is_unspecified() {
        return Route::new(verdict::PASS);
    }
    let Some(known) = known(world, &to) else {
        // What is not known for certain to be outside must not leave in plaintext.
        let outside = if world.is_incomplete() { verdict::AGENT } else { verdict::PASS };
        return Route::new(outside);
    };
    if known.kind == destination::SERVICE {
        return to_service(world, source, to);
    }
    to_workload(world, source, &known, to.port)
}

/// Picks among all endpoints alike. The kernel knows how many there are, and those on this node; the rest is the agent's.
#[inline(always)]
fn to_service<W: World>(world: &W, source: Source, to: Endpoint) -> Route {
    let agent = Route::new(verdict::AGENT);
    let Some(entry) = world.service(&to) else {
        return agent;
    };
    if entry.flags & service::TO_AGENT != 0 || entry.total == 0 {
        return agent;
    }
    // The high half of the product is uniform in 0..total, without a division.
    let index = ((u64::from(world.random()) * u64::from(entry.total)) >> 32) as u32;
    if index >= entry.local {
        return Route { remote_only: true, ..agent };
    }
    let Some(backend) = world.backend(&BackendKey { service: to, index }) else {
        return agent;
    };
    let Some(known) = world.destination(&backend.addr) else {
        return agent;
    };
    Route { backend, ..to_workload(world, source, &known, backend.port) }
}

#[inline(always)]
fn to_workload<W: World>(world: &W, source: Source, known: &Destination, port: u16) -> Route {
    if known.cookie == source.cookie {
        return Route { destination: known.cookie, ..Route::new(verdict::OWN) };
    }
    let encrypted = known.flags & destination::TO_AGENT | source.flags & workload::ALWAYS_ENCRYPT;
    if known.cookie == 0 || encrypted != 0 {
        return Route::new(verdict::AGENT);
    }
    let direct = Route { destination: known.cookie, ..Route::new(verdict::DIRECT) };
    if known.flags & destination::ALLOW_ALL != 0 {
        return direct;
    }
    let key = PairKey { source: source.cookie, destination: known.cookie, port: u32::from(port), pad: 0 };
    let answer = match world.pair(&key) {
        Some(answer) => Some(answer),
        None => world.pair(&PairKey { port: 0, ..key }),
    };
    match answer {
        Some(pair::ALLOW) => direct,
        Some(pair::DENY) => Route { verdict: verdict::DENY, ..direct },
        _ => Route::new(verdict::AGENT),
    }
}

/// Whether a connection of `source` to where `key` says would go directly, by what is known now.
#[inline(always)]
pub fn may_go_direct<W: World>(world: &W, source: u64, key: &ArrivalKey) -> bool {
    let Some(flags) = world.flags(source) else { return false };
    let Some(known) = world.destination(&key.destination.addr) else { return false };
    let way = to_workload(world, Source { cookie: source, flags }, &known, key.destination.port);
    way.verdict == verdict::DIRECT && way.destination == key.cookie
}

#[cfg(test)]
mod tests;
