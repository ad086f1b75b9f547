//! `connect4`, `connect6` of the kubelet's cgroup: a pod of which it is not known yet whether it takes part in the mesh must not
//! send anything there that ought to be protected.
//!
//! TCP alone: other protocols are not protected afterwards either. Attached below what captures, both run for each
//! connection, and a refusal by either is one.

use super::{
    PASS, TCP,
    connect::fail,
    maps::{self, CONFIG, Maps, OUTSIDE, WORKLOADS},
    named,
};
use aya_ebpf::{
    EbpfContext as _, helpers::generated::bpf_get_netns_cookie, macros::cgroup_sock_addr,
    programs::SockAddrContext,
};
use weft_ebpf::must_wait;
use weft_ebpf_abi::{Stat, config};

/// What a connection fails with that came too early: clients that try again do so after this.
const ECONNREFUSED: i32 = 111;

#[cgroup_sock_addr(connect4)]
pub fn weft_guard4(ctx: SockAddrContext) -> i32 {
    guard(&ctx, true)
}

#[cgroup_sock_addr(connect6)]
pub fn weft_guard6(ctx: SockAddrContext) -> i32 {
    guard(&ctx, false)
}

#[inline(always)]
fn guard(ctx: &SockAddrContext, v4: bool) -> i32 {
    // SAFETY: a read of a context field that the verifier allows in connect programs.
    let protocol = unsafe { (*ctx.sock_addr).protocol };
    if protocol != TCP {
        return PASS;
    }
    // SAFETY: the helper takes the context of a connect program.
    let cookie = unsafe { bpf_get_netns_cookie(ctx.as_ptr()) };
    // SAFETY: plain presence tests.
    if unsafe { WORKLOADS.get(&cookie).is_some() || OUTSIDE.get(&cookie).is_some() } {
        return PASS;
    }
    let Some(settings) = CONFIG.get(0) else { return PASS };
    // Pods on the node's network are the node.
    if settings.node == cookie {
        return PASS;
    }
    // SAFETY: the context is a connect program's, of that family.
    let to = unsafe { named(ctx.sock_addr, v4) };
    if !must_wait(&Maps, settings.flags & config::GUARD_ALL != 0, &to) {
        return PASS;
    }
    maps::count(Stat::Guarded);
    fail(ECONNREFUSED)
}
