//! `getpeername4`, `getpeername6`: an application asks whom it is connected to. It hears what it asked for.

use super::{
    PASS,
    maps::{self, ARRIVALS, Maps, WORKLOADS},
    named, rename,
};
use aya_ebpf::{
    EbpfContext as _, bindings::bpf_sock, helpers::generated::bpf_get_netns_cookie, macros::cgroup_sock_addr,
    programs::SockAddrContext,
};
use weft_ebpf::World as _;
use weft_ebpf_abi::{Addr, ArrivalKey, Endpoint};

#[cgroup_sock_addr(getpeername4)]
pub fn weft_getpeername4(ctx: SockAddrContext) -> i32 {
    getpeername(&ctx, true)
}

#[cgroup_sock_addr(getpeername6)]
pub fn weft_getpeername6(ctx: SockAddrContext) -> i32 {
    getpeername(&ctx, false)
}

#[inline(always)]
fn getpeername(ctx: &SockAddrContext, v4: bool) -> i32 {
    // SAFETY: reads of context fields that the verifier allows in getpeername programs.
    let (socket, protocol) = unsafe { ((*ctx.sock_addr).__bindgen_anon_1.sk, (*ctx.sock_addr).protocol) };
    if socket.is_null() {
        return PASS;
    }
    // SAFETY: the socket is the context's and not null.
    let original = match unsafe { maps::state_of(socket.cast()) } {
        Some(state) => Some(state.arrival.original),
        None if protocol == MPTCP => of_subflow(ctx, socket, v4),
        None => None,
    };
    if let Some(original) = original
        && (!v4 || original.addr.is_v4())
    {
        // SAFETY: the context is a getpeername program's, and the families agree.
        unsafe { rename(ctx.sock_addr, v4, &original) };
    }
    PASS
}

/// IPPROTO_MPTCP.
const MPTCP: u32 = 262;

/// An MPTCP socket is not the socket that connected: that was its first subflow, of the same addresses and ports. The
/// record of its arrival still tells, as long as the map has room for it.
#[inline(always)]
fn of_subflow(ctx: &SockAddrContext, socket: *mut bpf_sock, v4: bool) -> Option<Endpoint> {
    // SAFETY: the helper takes the context of a getpeername program.
    let cookie = unsafe { bpf_get_netns_cookie(ctx.as_ptr()) };
    // SAFETY: a plain presence test.
    unsafe { WORKLOADS.get(&cookie) }?;
    // SAFETY: the context is a getpeername program's, of that family; the socket is not null.
    let (peer, own) = unsafe {
        let own = if v4 { Addr::v4((*socket).src_ip4) } else { Addr { words: (*socket).src_ip6 } };
        (named(ctx.sock_addr, v4), Endpoint::new(own, (*socket).src_port as u16))
    };
    let reached =
        Maps.destination(&peer.addr).map_or(cookie, |d| if d.cookie == 0 { cookie } else { d.cookie });
    let key = ArrivalKey { cookie: reached, source: own, destination: peer };
    // SAFETY: copied at once.
    unsafe { ARRIVALS.get(&key) }.map(|a| a.original)
}
