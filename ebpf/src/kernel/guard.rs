//! `connect4`, `connect6` and, where everything is guarded, ingress of the kubelet's cgroup: a pod of which it is not known yet
//! whether it takes part in the mesh must not send anything there that ought to be protected, nor be reached.
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
    EbpfContext as _,
    helpers::generated::bpf_get_netns_cookie,
    macros::{cgroup_skb, cgroup_sock_addr},
    programs::{SkBuffContext, SockAddrContext},
};
use weft_ebpf::{asks_for_connection, must_wait};
use weft_ebpf_abi::{Addr, Config, Stat, config};

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

/// A packet for a socket of a pod. One that asks for a connection is dropped until the pod is known: whoever sent it tries again
/// after a second, and finds the pod as it is to be.
#[cgroup_skb(ingress)]
pub fn weft_guard_in(ctx: SkBuffContext) -> i32 {
    const DROP: i32 = 0;
    const ETH_P_IP: u32 = 0x0800_u16.to_be() as u32;
    let v4 = ctx.skb.protocol() == ETH_P_IP;
    // Without options or extension headers, as those that ask for connections come; the first byte of IPv4 says otherwise.
    let Ok(protocol) = ctx.load::<u8>(if v4 { 9 } else { 6 }) else { return PASS };
    if u32::from(protocol) != TCP {
        return PASS;
    }
    let header = if v4 {
        let Ok(first) = ctx.load::<u8>(0) else { return PASS };
        usize::from(first & 0xf) * 4
    } else {
        40
    };
    let Ok(flags) = ctx.load::<u8>(header + 13) else { return PASS };
    if !asks_for_connection(flags) {
        return PASS;
    }
    // SAFETY: the helper takes the context of such a program; kernels without it refuse the program.
    let cookie = unsafe { bpf_get_netns_cookie(ctx.as_ptr()) };
    if unclassified(cookie).is_none() || is_loopback(&ctx, v4) {
        return PASS;
    }
    maps::count(Stat::Guarded);
    DROP
}

/// Whether the packet comes from the pod itself.
#[inline(always)]
fn is_loopback(ctx: &SkBuffContext, v4: bool) -> bool {
    if v4 {
        return ctx.load::<u8>(12).is_ok_and(|first| first == 127);
    }
    ctx.load::<[u32; 4]>(8).is_ok_and(|source| Addr { words: source }.is_loopback())
}

/// The node's settings, where a pod is not known yet; none where it is, or is the node.
#[inline(always)]
fn unclassified(cookie: u64) -> Option<&'static Config> {
    // SAFETY: plain presence tests.
    if unsafe { WORKLOADS.get(&cookie).is_some() || OUTSIDE.get(&cookie).is_some() } {
        return None;
    }
    // Pods on the node's network are the node.
    CONFIG.get(0).filter(|settings| settings.node != cookie)
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
    let Some(settings) = unclassified(cookie) else { return PASS };
    // SAFETY: the context is a connect program's, of that family.
    let to = unsafe { named(ctx.sock_addr, v4) };
    if !must_wait(&Maps, settings.flags & config::GUARD_ALL != 0, &to) {
        return PASS;
    }
    maps::count(Stat::Guarded);
    fail(ECONNREFUSED)
}
