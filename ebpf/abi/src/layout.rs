//! Proof that no shared type has a byte that is not a field: padding would make keys that look equal differ.
#![allow(unsafe_code)]

use crate::{
    Addr, Arrival, ArrivalKey, BackendKey, Config, Destination, Endpoint, Event, Excess, Flow, ListenerKey,
    PairKey, PlainKey, Service, SocketState, VAULT_CHUNK, VaultChunk, Workload,
};
use core::mem::size_of;

/// A type of this crate that is nothing but its bytes.
///
/// # Safety
/// The type is `repr(C)`, made of fixed-width integers (or of such types), has no padding, and any bytes are a value.
pub unsafe trait Plain: Copy + 'static {}

/// Implements [`Plain`] where the fields' sizes add up to the type's.
macro_rules! plain {
    ($($type:ident { $($field:ident: $kind:ty),+ $(,)? })+) => {$(
        const _: () = assert!(size_of::<$type>() == 0 $(+ size_of::<$kind>())+);
        const _: fn($type) = |value| { let $type { $($field),+ } = value; $(let _: $kind = $field;)+ };
        // SAFETY: `repr(C)`, integers only, and the assertion above leaves no room for padding.
        unsafe impl Plain for $type {}
    )+};
}

plain! {
    Addr { words: [u32; 4] }
    Endpoint { addr: Addr, port: u16, pad: u16 }
    Config { version: u32, flags: u32, node: u64, object: u64, changed_ns: u64 }
    Workload { v6: Addr, v4: u32, flags: u32, listeners: u32 }
    Destination { cookie: u64, kind: u32, flags: u32 }
    Service { total: u32, local: u32, flags: u32 }
    BackendKey { service: Endpoint, index: u32 }
    PairKey { source: u64, destination: u64, port: u32, pad: u32 }
    PlainKey { cookie: u64, port: u32, pad: u32 }
    ArrivalKey { cookie: u64, source: Endpoint, destination: Endpoint }
    Arrival { source: u64, original: Endpoint, backend: Endpoint, kind: u32, flags: u32, opened_ns: u64 }
    Excess { received_by_fin: u64, sent: u32, received: u32 }
    SocketState {
        arrival: Arrival, destination: u64, verdict: u32, established: u32, excess: Excess, released: u32, pad: u32,
    }
    ListenerKey { cookie: u64, role: u32, slot: u32 }
    VaultChunk { bytes: [u8; VAULT_CHUNK] }
    Flow {
        socket: u64, source: u64, destination: u64, opened_ns: u64, updated_ns: u64, bytes_sent: u64,
        bytes_received: u64, client: Endpoint, original: Endpoint, backend: Endpoint, srtt_us: u32, retransmits: u32,
        verdict: u32, established: u32, ending: u32,
    }
    Event { flow: Flow, kind: u32, pad: u32 }
}

// SAFETY: an integer.
unsafe impl Plain for u32 {}
// SAFETY: an integer.
unsafe impl Plain for u64 {}

// The sizes themselves, so that a change of layout is a change of this file (and of `VERSION`).
const _: () = assert!(size_of::<Endpoint>() == 20);
const _: () = assert!(size_of::<ArrivalKey>() == 48);
const _: () = assert!(size_of::<Arrival>() == 64);
const _: () = assert!(size_of::<SocketState>() == 104);
const _: () = assert!(size_of::<Flow>() == 136);
const _: () = assert!(size_of::<Event>() == 144);
