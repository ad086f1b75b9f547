//! What the programs decided, told one by one: only with the feature `log`, since each line costs more than the decision.
//! The agent, built with `kernel-log`, reads the lines and emits them as its own.

use aya_ebpf::programs::{SkLookupContext, SockAddrContext};
use weft_ebpf_abi::{ArrivalKey, Endpoint};

/// A connection of the pod `cookie` to `to` goes this way.
#[inline(always)]
pub fn routed(_ctx: &SockAddrContext, _cookie: u64, _to: &Endpoint, _verdict: u32) {
    #[cfg(feature = "log")]
    aya_log_ebpf::debug!(
        _ctx,
        "connect: pod {} to {:i} port {}: verdict {}",
        _cookie,
        octets(_to),
        _to.port,
        _verdict
    );
}

/// A connection that reaches a pod, recorded as of this kind (0: from elsewhere), goes to this role of the agent (0: to the
/// application).
#[inline(always)]
pub fn admitted(_ctx: &SkLookupContext, _key: &ArrivalKey, _recorded: u32, _role: u32) {
    #[cfg(feature = "log")]
    aya_log_ebpf::debug!(
        _ctx,
        "lookup: pod {} from {:i} port {} to port {}: recorded {} role {}",
        _key.cookie,
        octets(&_key.source),
        _key.source.port,
        _key.destination.port,
        _recorded,
        _role
    );
}

/// An address as aya-log prints one: all 16 bytes.
#[cfg(feature = "log")]
#[inline(always)]
fn octets(at: &Endpoint) -> [u8; 16] {
    // SAFETY: 16 bytes as 16 bytes.
    unsafe { core::mem::transmute(at.addr.words) }
}
