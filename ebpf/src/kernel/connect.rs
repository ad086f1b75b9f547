//! `connect4`, `connect6`: an application asks for a connection.

use super::{
    PASS, TCP, log,
    maps::{self, AGENTS, CONFIG, Maps, WORKLOADS},
    named, record, rename,
};
use aya_ebpf::{
    EbpfContext as _,
    bindings::bpf_sock,
    helpers::generated::{bpf_get_netns_cookie, bpf_ktime_get_ns, bpf_set_retval, bpf_setsockopt},
    macros::cgroup_sock_addr,
    programs::SockAddrContext,
};
use weft_ebpf::{Route, Source, World as _, capture_port, route};
use weft_ebpf_abi::{
    Addr, Arrival, DELIVERY_MARK, Endpoint, SocketState, Stat, Workload, arrival, verdict, workload,
};

/// Refuses the call.
const REFUSE: i32 = 0;
/// What a connection that policy refuses fails with: what `connect(2)` documents for a local firewall.
const EACCES: i32 = 13;
/// What a connection fails with to which the pod has no address of its own to come from.
const ENETUNREACH: i32 = 101;
/// What a connection fails with when there is no memory to remember where it was meant to go.
const ENOBUFS: i32 = 105;

#[cgroup_sock_addr(connect4)]
pub fn weft_connect4(ctx: SockAddrContext) -> i32 {
    connect(&ctx, true)
}

#[cgroup_sock_addr(connect6)]
pub fn weft_connect6(ctx: SockAddrContext) -> i32 {
    connect(&ctx, false)
}

#[inline(always)]
fn connect(ctx: &SockAddrContext, v4: bool) -> i32 {
    // SAFETY: reads of context fields that the verifier allows in connect programs.
    let (socket, protocol) = unsafe { ((*ctx.sock_addr).__bindgen_anon_1.sk, (*ctx.sock_addr).protocol) };
    if protocol != TCP || socket.is_null() {
        return PASS;
    }
    // SAFETY: the helper takes the context of a connect program.
    let cookie = unsafe { bpf_get_netns_cookie(ctx.as_ptr()) };
    // SAFETY: the context is a connect program's, of that family.
    let to = unsafe { named(ctx.sock_addr, v4) };
    // SAFETY: copied at once.
    let Some(from) = unsafe { WORKLOADS.get(&cookie) }.copied() else {
        return from_elsewhere(socket, cookie, &to);
    };
    // SAFETY: a plain presence test.
    if unsafe { AGENTS.get(&ctx.tgid()) }.is_some() {
        return from_agent(socket, cookie, to);
    }
    // SAFETY: the helper takes nothing and cannot fail.
    let opened_ns = unsafe { bpf_ktime_get_ns() };
    let way = route(&Maps, Source { cookie, flags: from.flags }, to);
    log::routed(ctx, cookie, &to, way.verdict);
    let asked = Asked { cookie, to, opened_ns };
    match way.verdict {
        verdict::AGENT => capture(ctx, v4, socket, &from, &asked, &way),
        verdict::DENY => deny(ctx, cookie, to, &way),
        _ => let_through(ctx, v4, socket, &asked, &way),
    }
}

/// What is asked for.
struct Asked {
    /// The cookie of who asks.
    cookie: u64,
    to: Endpoint,
    opened_ns: u64,
}

/// Not an enrolled workload. Only the node's own processes leave a record: they reach the workloads on it directly. A socket
/// of a pod that was let go may still carry what an earlier `connect` was about.
#[inline(always)]
fn from_elsewhere(socket: *mut bpf_sock, cookie: u64, to: &Endpoint) -> i32 {
    let is_node = CONFIG.get(0).is_some_and(|config| config.node == cookie);
    if is_node
        && let Some(known) = Maps.destination(&to.addr)
        && known.cookie != 0
    {
        let arrival = Arrival { source: cookie, original: *to, kind: arrival::NODE, ..Arrival::default() };
        remember(socket, SocketState { arrival, destination: known.cookie, ..SocketState::default() });
    } else {
        forget(socket);
    }
    PASS
}

/// The agent in a pod's namespace: untouched, and marked as a delivery where it says so.
#[inline(always)]
fn from_agent(socket: *mut bpf_sock, cookie: u64, to: Endpoint) -> i32 {
    // SAFETY: a field of the context's socket, which is not null.
    if unsafe { (*socket).mark } == DELIVERY_MARK {
        let arrival = Arrival { source: cookie, original: to, kind: arrival::DELIVERY, ..Arrival::default() };
        remember(socket, SocketState { arrival, destination: cookie, ..SocketState::default() });
    } else {
        forget(socket);
    }
    PASS
}

/// Passed, direct or to itself: the kernel routes it as it would have; at most the address changes, from service to
/// endpoint.
#[inline(always)]
fn let_through(ctx: &SockAddrContext, v4: bool, socket: *mut bpf_sock, asked: &Asked, way: &Route) -> i32 {
    let direct = way.verdict == verdict::DIRECT;
    // What passes may still end in the same namespace, at an address that the mesh does not know.
    let destination = if direct { way.destination } else { asked.cookie };
    let kind = if direct { arrival::DIRECT } else { arrival::OWN };
    let Asked { cookie: source, to: original, opened_ns } = *asked;
    let arrival = Arrival { source, original, backend: way.backend, kind, flags: 0, opened_ns };
    if !remember(socket, state(arrival, destination, way.verdict)) {
        return fail(ENOBUFS);
    }
    if way.backend.port != 0 {
        if v4 && !way.backend.addr.is_v4() {
            return fail(ENETUNREACH);
        }
        // SAFETY: the context is a connect program's, and the families agree.
        unsafe { rename(ctx.sock_addr, v4, &way.backend) };
    }
    maps::count(if direct { Stat::Direct } else { Stat::Passed });
    PASS
}

/// Sends the connection to the pod's own address, where `sk_lookup` gives it to the agent. The source address stays the
/// pod's own, and should the agent be gone the connection is refused: nothing leaves the pod unencrypted.
#[inline(always)]
fn capture(
    ctx: &SockAddrContext,
    v4: bool,
    socket: *mut bpf_sock,
    from: &Workload,
    asked: &Asked,
    way: &Route,
) -> i32 {
    let Asked { cookie, to, opened_ns } = *asked;
    let wanted = if to.addr.is_v4() { workload::HAS_V4 } else { workload::HAS_V6 };
    if from.flags & wanted == 0 {
        return fail(ENETUNREACH);
    }
    let own = if to.addr.is_v4() { Addr::v4(from.v4) } else { from.v6 };
    let flags = if way.remote_only { arrival::REMOTE_ONLY } else { 0 };
    let kind = arrival::CAPTURED;
    let arrival = Arrival { source: cookie, original: to, backend: way.backend, kind, flags, opened_ns };
    if !remember(socket, state(arrival, cookie, verdict::AGENT)) {
        return fail(ENOBUFS);
    }
    release_device(ctx, socket);
    // SAFETY: the context is a connect program's; `own` is of the family of `to`, which is the socket's or mapped.
    unsafe { rename(ctx.sock_addr, v4, &Endpoint::new(own, capture_port(&to))) };
    maps::count(Stat::Captured);
    PASS
}

/// A socket bound to `eth0` could not reach the pod's own address, which is on the loopback device.
#[inline(always)]
fn release_device(ctx: &SockAddrContext, socket: *mut bpf_sock) {
    const SOL_SOCKET: i32 = 1;
    const SO_BINDTODEVICE: i32 = 25;
    // SAFETY: a field of the context's socket, which is not null.
    if unsafe { (*socket).bound_dev_if } == 0 {
        return;
    }
    let mut none = [0_u8; 4];
    // SAFETY: the helper reads four bytes. Should it fail, the connection fails as it would bound to a dead device.
    let _ = unsafe { bpf_setsockopt(ctx.as_ptr(), SOL_SOCKET, SO_BINDTODEVICE, none.as_mut_ptr().cast(), 4) };
}

#[inline(always)]
fn deny(ctx: &SockAddrContext, cookie: u64, to: Endpoint, way: &Route) -> i32 {
    record::denied(ctx, cookie, to, way);
    maps::count(Stat::Denied);
    fail(EACCES)
}

#[inline(always)]
fn state(arrival: Arrival, destination: u64, verdict: u32) -> SocketState {
    SocketState { arrival, destination, verdict, ..SocketState::default() }
}

#[inline(always)]
fn remember(socket: *mut bpf_sock, state: SocketState) -> bool {
    // SAFETY: `connect` has found the context's socket not to be null.
    let kept = unsafe { maps::set_state(socket.cast(), state) };
    if !kept {
        maps::count(Stat::RecordsLost);
    }
    kept
}

/// A socket whose earlier `connect` failed before anything was sent may still carry what that one was about.
#[inline(always)]
fn forget(socket: *mut bpf_sock) {
    // SAFETY: `connect` has found the context's socket not to be null.
    unsafe { maps::clear_state(socket.cast()) };
}

/// Makes `connect` fail with `errno`.
#[inline(always)]
pub(super) fn fail(errno: i32) -> i32 {
    // SAFETY: the helper takes any errno. Should it refuse, the call fails with EPERM all the same.
    let _ = unsafe { bpf_set_retval(-errno) };
    REFUSE
}
