//! `sk_lookup`: a connection reaches a pod's namespace.
//!
//! This hook has no helper that names the namespace, and an address does not (link-local ones are everywhere, and a pod
//! may have more than the mesh knows): so each pod has a copy of the program of its own, that has the cookie built in.

use super::{
    TCP, address, log,
    maps::{self, ARRIVALS, LISTENERS, Maps, WORKLOADS, count},
};
use aya_ebpf::{
    Global, bindings::BPF_SK_LOOKUP_F_NO_REUSEPORT, macros::sk_lookup, programs::SkLookupContext,
};
use core::cell::UnsafeCell;
use weft_ebpf::{Admission, admit, recorded, slot};
use weft_ebpf_abi::{ArrivalKey, Endpoint, LISTENER_SLOTS, ListenerKey, Stat};

/// The cookie of the namespace that this copy is attached to; the agent sets it when it loads the copy.
#[unsafe(no_mangle)]
static NETNS_COOKIE: Global<u64> = Global::new(0);

/// How many connections of each role this copy has given to the agent.
static TURNS: Turns = Turns([const { UnsafeCell::new(0) }; 4]);

struct Turns([UnsafeCell<u32>; 4]);

// SAFETY: see `next`.
unsafe impl Sync for Turns {}

impl Turns {
    /// The number of the next connection. Two processors may get the same one, and two connections then the same
    /// listener: an even spread is all that this is for, and is not worth an atomic operation.
    #[inline(always)]
    fn next(&self, role: u32) -> u32 {
        let turn = self.0[(role & 3) as usize].get();
        // SAFETY: a word of the copy's own memory, read and written whole; any value will do.
        unsafe {
            let number = turn.read_volatile();
            turn.write_volatile(number.wrapping_add(1));
            number
        }
    }
}

const SK_DROP: u32 = 0;
const SK_PASS: u32 = 1;

const AF_INET: u32 = 2;

#[sk_lookup]
pub fn weft_lookup(ctx: SkLookupContext) -> u32 {
    // SAFETY: reads of context fields that the verifier allows.
    let (protocol, key) = unsafe {
        let c = &*ctx.lookup;
        let v4 = c.family == AF_INET;
        let from = address(&raw const c.remote_ip4, &raw const c.remote_ip6, v4);
        let to = address(&raw const c.local_ip4, &raw const c.local_ip6, v4);
        let key = ArrivalKey {
            cookie: NETNS_COOKIE.load(),
            source: Endpoint::new(from, u16::from_be(c.remote_port)),
            destination: Endpoint::new(to, c.local_port as u16),
        };
        (c.protocol, key)
    };
    if protocol != TCP {
        return SK_PASS;
    }
    // SAFETY: a few fields, read at once.
    let recorded = unsafe { ARRIVALS.get(&key) }.map_or(0, |found| recorded(&Maps, &key, found));
    let to = &key.destination;
    let open = || maps::is_open(key.cookie, to.port);
    match admit(recorded, to.addr.is_loopback(), to.port, open) {
        Admission::Application => {
            log::admitted(&ctx, &key, recorded, 0);
            count(Stat::Admitted);
            SK_PASS
        }
        Admission::Refused => {
            log::admitted(&ctx, &key, recorded, 0);
            count(Stat::Denied);
            SK_DROP
        }
        Admission::Agent(role) => {
            log::admitted(&ctx, &key, recorded, role);
            to_agent(&ctx, key.cookie, role)
        }
    }
}

/// Gives the connection to the agent, to each of its lanes in turn. Without a listener it is refused: what cannot be judged
/// is not let in.
///
/// The kernel's own choice within a SO_REUSEPORT group is a hash: two tunnels of one client may meet on one lane. And
/// whoever is root in the pod could join the group.
#[inline(always)]
fn to_agent(ctx: &SkLookupContext, cookie: u64, role: u32) -> u32 {
    // SAFETY: one field, read at once.
    let listeners = unsafe { WORKLOADS.get(&cookie) }.map_or(0, |w| w.listeners);
    let turn = TURNS.next(role);
    for failed in 0..LISTENER_SLOTS {
        let ctx = SkLookupContext::new(ctx.lookup);
        let key = ListenerKey { cookie, role, slot: slot(turn, listeners, failed) };
        if LISTENERS.redirect_sk_lookup(ctx, key, BPF_SK_LOOKUP_F_NO_REUSEPORT.into()).is_ok() {
            count(Stat::Steered);
            return SK_PASS;
        }
    }
    count(Stat::Orphaned);
    SK_DROP
}
