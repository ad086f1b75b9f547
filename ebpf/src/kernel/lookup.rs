//! `sk_lookup`: a connection reaches a pod's namespace.
//!
//! This hook has no helper that names the namespace, and an address does not (link-local ones are everywhere, and a pod
//! may have more than the mesh knows): so each pod has a copy of the program of its own, that has the cookie built in.

use super::{
    TCP, address, log,
    maps::{self, ARRIVALS, LISTENERS, count},
};
use aya_ebpf::{Global, macros::sk_lookup, programs::SkLookupContext};
use weft_ebpf::{Admission, admit};
use weft_ebpf_abi::{ArrivalKey, Endpoint, LISTENER_SLOTS, ListenerKey, Stat};

/// The cookie of the namespace that this copy is attached to; the agent sets it when it loads the copy.
#[unsafe(no_mangle)]
static NETNS_COOKIE: Global<u64> = Global::new(0);

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
    // SAFETY: one field, read at once.
    let recorded = unsafe { ARRIVALS.get(&key) }.map_or(0, |a| a.kind);
    let to = &key.destination;
    let open = || maps::is_open(key.cookie, to.port);
    match admit(recorded, to.addr.is_loopback(), to.port, open) {
        Admission::Application => {
            log::admitted(&ctx, &key, recorded, 0);
            count(Stat::Admitted);
            SK_PASS
        }
        Admission::Agent(role) => {
            log::admitted(&ctx, &key, recorded, role);
            to_agent(&ctx, key.cookie, role)
        }
    }
}

/// Gives the connection to the agent. Without a listener it is refused: what cannot be judged is not let in.
#[inline(always)]
fn to_agent(ctx: &SkLookupContext, cookie: u64, role: u32) -> u32 {
    for slot in 0..LISTENER_SLOTS {
        let ctx = SkLookupContext::new(ctx.lookup);
        if LISTENERS.redirect_sk_lookup(ctx, ListenerKey { cookie, role, slot }, 0).is_ok() {
            count(Stat::Steered);
            return SK_PASS;
        }
    }
    count(Stat::Orphaned);
    SK_DROP
}
