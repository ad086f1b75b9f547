//! The layout that the kernel programs and the agent share: map keys, values, events and constants.
//!
//! Fixed-width integers only, no implicit padding (see `layout`'s assertions), addresses in network byte order, ports in
//! host order. Whatever changes a layout here, or the meaning of a field, raises [`VERSION`]: the agent keeps its maps
//! pinned across restarts and reopens them only when the version is the same.
#![no_std]

mod address;
mod flow;
mod layout;
mod lookup;
mod stat;

pub use address::{Addr, Endpoint};
pub use flow::{Event, Flow, ending, event, verdict};
pub use layout::Plain;
pub use lookup::{
    Arrival, ArrivalKey, Backend, BackendKey, Config, Destination, Excess, ListenerKey, PairKey, PlainKey,
    Service, SocketState, Workload, arrival, config, destination, listener, pair, plain, service, workload,
};
pub use stat::{STATS, Stat};

/// The version of everything in this crate. Pinned maps of another version are not reopened.
pub const VERSION: u32 = 6;

/// The port on which meshed workloads accept HBONE.
pub const HBONE_PORT: u16 = 15008;

/// The socket mark of the agent's own connections to the application in a pod. Such a connection, made by a registered
/// agent process, is let through to the application; an agent's other connections are treated like anybody's.
pub const DELIVERY_MARK: u32 = 0x5745_4654;

/// A captured connection is sent to the pod's own address and one of these ports, chosen by a hash of the original
/// destination. Nothing listens there: `sk_lookup` recognises the connection by its tuple. The range lies above the
/// default ephemeral ports, and using many of them keeps 4-tuples apart that differ in their destination alone.
pub const CAPTURE_PORTS: core::ops::RangeInclusive<u16> = 61_000..=65_535;

/// How many listeners of one role a pod may have in the `LISTENERS` map: one for each lane of the agent.
pub const LISTENER_SLOTS: u32 = 64;

/// What one entry of the map `VAULT` holds, in bytes.
pub const VAULT_CHUNK: usize = 4096;

/// How many entries the map `VAULT` has room for: 16 MiB, one half of which holds some thousand certificates.
pub const VAULT_CHUNKS: u32 = 4096;

/// An entry of the map `VAULT`, which no program reads: the agent keeps there what its successor shall find.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct VaultChunk {
    /// The bytes.
    pub bytes: [u8; VAULT_CHUNK],
}
