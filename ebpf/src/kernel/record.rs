//! What is written down of a connection: its arrival, its events.

use super::{
    address,
    maps::{self, ARRIVALS, EVENTS, WORKLOADS, count},
};
use aya_ebpf::{
    EbpfContext as _,
    bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP},
    helpers::generated::{bpf_get_netns_cookie, bpf_get_socket_cookie, bpf_ktime_get_ns},
    programs::{SockAddrContext, SockOpsContext},
};
use core::ffi::c_void;
use weft_ebpf::{Reset, Route};
use weft_ebpf_abi::{
    Arrival, ArrivalKey, Endpoint, Event, Flow, SocketState, Stat, arrival, ending, event, verdict,
};

/// The reader polls; it is woken only when this many bytes wait, so that a storm of short connections does not pay a
/// wake-up each.
const WAKE_BYTES: u64 = 128 * 1024;

const AF_INET: u32 = 2;

/// Before the first packet leaves: tells the destination's `sk_lookup` what is coming.
#[inline(always)]
pub fn announce(ctx: &SockOpsContext, state: &SocketState) {
    if state.destination != 0 && ARRIVALS.insert(key_of(ctx, state), state.arrival, 0).is_err() {
        count(Stat::RecordsLost);
    }
}

/// The connection is there.
#[inline(always)]
pub fn established(ctx: &SockOpsContext, state: &mut SocketState) {
    if state.verdict == 0 {
        return;
    }
    state.established = 1;
    weft_ebpf::established(&mut state.excess);
    tell(measure(ctx, state), event::OPEN);
}

/// A server's socket has a client. A record that let it in has done so, and does for no other. True when the client came from
/// outside and was let in without the agent: nothing else tells of it. Asked when the connection is there, and not of the
/// policies, which may have changed since it was let in.
///
/// # Safety
/// `socket` is the context's, and not null.
#[inline(always)]
pub unsafe fn arrived(ctx: &SockOpsContext, socket: *mut c_void) -> bool {
    // SAFETY: the helper takes the context of a sock_ops program.
    let cookie = unsafe { bpf_get_netns_cookie(ctx.as_ptr()) };
    // SAFETY: a plain presence test; the socket is the caller's promise.
    if unsafe { WORKLOADS.get(&cookie).is_none() || maps::is_ours(socket) } {
        return false;
    }
    let (here, client) = (local(ctx), remote(ctx));
    let key = ArrivalKey { cookie, source: client, destination: here };
    if let Some(found) = ARRIVALS.get_ptr_mut(&key) {
        // SAFETY: the entry is not freed while the program runs, and is written in one word. Should it come to stand for
        // another connection right now, that one is the agent's to judge.
        let flags = unsafe { &mut (*found).flags };
        if *flags & arrival::SPENT == 0 {
            *flags |= arrival::SPENT;
            return false;
        }
    }
    if here.addr.is_loopback() {
        return false;
    }
    // SAFETY: the helper takes nothing and cannot fail.
    let opened_ns = unsafe { bpf_ktime_get_ns() };
    let state = SocketState {
        arrival: Arrival { original: client, opened_ns, ..Arrival::default() },
        destination: cookie,
        verdict: verdict::PLAIN,
        established: 1,
        ..SocketState::default()
    };
    tell(measure(ctx, &state), event::OPEN);
    // SAFETY: the caller's promise.
    let kept = unsafe { maps::set_state(socket, state) };
    if !kept {
        count(Stat::RecordsLost);
    }
    kept
}

/// The connection moved to another state of TCP.
#[inline(always)]
pub fn moved(ctx: &SockOpsContext, state: &mut SocketState, from: u32, to: u32) {
    // SAFETY: a field that every sock_ops program may read.
    let received = unsafe { (*ctx.ops).bytes_received };
    weft_ebpf::moved(&mut state.excess, from, to, received);
}

/// The connection is over, or never came to be.
#[inline(always)]
pub fn closed(ctx: &SockOpsContext, state: &mut SocketState, from: u32) {
    // A captured connection may end before the agent accepts it: it connects, writes, closes, and all of that waits in the
    // backlog. Its record stays until the map has no room; it leads nowhere but to the agent.
    let in_backlog = state.verdict == verdict::AGENT;
    if state.destination != 0 && state.verdict != verdict::PLAIN && !in_backlog {
        // Evicted already, at worst.
        let _ = ARRIVALS.remove(key_of(ctx, state));
    }
    if state.verdict == 0 {
        return;
    }
    tell(Flow { ending: ending_of(ctx, state, from), ..measure(ctx, state) }, event::CLOSE);
}

/// How it ended, as its client would tell.
#[inline(always)]
fn ending_of(ctx: &SockOpsContext, state: &SocketState, from: u32) -> u32 {
    // SAFETY: a field that every sock_ops program may read.
    let received = unsafe { (*ctx.ops).bytes_received };
    match (weft_ebpf::reset(from, state, received), state.verdict == verdict::PLAIN) {
        (None, _) => ending::PEACE,
        (Some(Reset::Ours), false) | (Some(Reset::Theirs), true) => ending::CLIENT_RESET,
        (Some(Reset::Theirs), false) | (Some(Reset::Ours), true) => ending::SERVER_RESET,
    }
}

/// Policy refused the connection before there was one.
#[inline(always)]
pub fn denied(ctx: &SockAddrContext, source: u64, original: Endpoint, way: &Route) {
    // SAFETY: the helpers take the context of a connect program, or nothing.
    let (socket, now) = unsafe { (bpf_get_socket_cookie(ctx.as_ptr()), bpf_ktime_get_ns()) };
    let flow = Flow {
        socket,
        source,
        destination: way.destination,
        opened_ns: now,
        updated_ns: now,
        original,
        backend: way.backend,
        verdict: verdict::DENY,
        ..Flow::default()
    };
    tell(flow, event::DENY);
}

#[inline(always)]
fn local(ctx: &SockOpsContext) -> Endpoint {
    // SAFETY: fields that every sock_ops program may read.
    let addr = unsafe {
        let ops = ctx.ops;
        address(&raw const (*ops).local_ip4, &raw const (*ops).local_ip6, (*ops).family == AF_INET)
    };
    Endpoint::new(addr, ctx.local_port() as u16)
}

#[inline(always)]
fn remote(ctx: &SockOpsContext) -> Endpoint {
    // SAFETY: fields that every sock_ops program may read.
    let addr = unsafe {
        let ops = ctx.ops;
        address(&raw const (*ops).remote_ip4, &raw const (*ops).remote_ip6, (*ops).family == AF_INET)
    };
    // The kernel gives this port as it stands in the packet, in the upper half of the word.
    let port = u32::from_be(ctx.remote_port()) as u16;
    Endpoint::new(addr, port)
}

#[inline(always)]
fn key_of(ctx: &SockOpsContext, state: &SocketState) -> ArrivalKey {
    ArrivalKey { cookie: state.destination, source: local(ctx), destination: remote(ctx) }
}

#[inline(always)]
fn measure(ctx: &SockOpsContext, state: &SocketState) -> Flow {
    let own = matches!(state.verdict, verdict::DIRECT | verdict::PLAIN);
    let mut flow = Flow {
        client: local(ctx),
        original: state.arrival.original,
        destination: if own { state.destination } else { 0 },
        ..figures(ctx, state)
    };
    if state.verdict == verdict::PLAIN {
        // This is the server's socket: what it received is what the client sent.
        (flow.client, flow.original) = (flow.original, flow.client);
        (flow.bytes_sent, flow.bytes_received) = (flow.bytes_received, flow.bytes_sent);
    }
    flow
}

#[inline(always)]
fn figures(ctx: &SockOpsContext, state: &SocketState) -> Flow {
    // SAFETY: the helpers take the context, or nothing; the fields are readable in every sock_ops program.
    unsafe {
        let ops = ctx.ops;
        Flow {
            socket: bpf_get_socket_cookie(ctx.as_ptr()),
            source: state.arrival.source,
            opened_ns: state.arrival.opened_ns,
            updated_ns: bpf_ktime_get_ns(),
            bytes_sent: (*ops).bytes_acked.saturating_sub(u64::from(state.excess.sent)),
            bytes_received: (*ops).bytes_received.saturating_sub(u64::from(state.excess.received)),
            backend: state.arrival.backend,
            // The kernel keeps eight times the value.
            srtt_us: (*ops).srtt_us >> 3,
            retransmits: (*ops).total_retrans,
            verdict: state.verdict,
            established: state.established,
            ..Flow::default()
        }
    }
}

#[inline(always)]
fn tell(flow: Flow, kind: u32) {
    let Some(mut entry) = EVENTS.reserve::<Event>(0) else {
        count(Stat::EventsLost);
        return;
    };
    entry.write(Event { flow, kind, pad: 0 });
    let waiting = EVENTS.query(BPF_RB_AVAIL_DATA.into());
    let wake = if waiting >= WAKE_BYTES { BPF_RB_FORCE_WAKEUP } else { BPF_RB_NO_WAKEUP };
    entry.submit(wake.into());
}
