//! What the programs look up on the way of a connection.
//!
//! A workload is named by its network namespace's cookie: a number that the kernel gives each namespace once, that no
//! process can choose, and that stays the same across restarts of the agent.

use crate::{Addr, Endpoint};

/// `CONFIG[0]`: what holds for the whole node.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// [`crate::VERSION`] of whoever made the maps.
    pub version: u32,
    /// See [`config`].
    pub flags: u32,
    /// The cookie of the node's own network namespace: its processes (kubelet) reach local workloads directly.
    pub node: u64,
    /// A hash of the object whose programs are attached.
    pub object: u64,
    /// When what decides about connections was last changed, in nanoseconds of the monotonic clock, taken after the change: a
    /// verdict that was found later is one of what the maps say now.
    pub changed_ns: u64,
}

/// Flags of a [`Config`].
pub mod config {
    /// `DESTINATIONS` had no room for all that the mesh knows: what is not in it may be the mesh's all the same.
    pub const INCOMPLETE: u32 = 1;
    /// A pod that is not classified may connect to nothing, also outside of the mesh.
    pub const GUARD_ALL: u32 = 1 << 1;
}

/// Flags of a [`Workload`].
pub mod workload {
    /// [`super::Workload::v4`] is set.
    pub const HAS_V4: u32 = 1;
    /// [`super::Workload::v6`] is set.
    pub const HAS_V6: u32 = 1 << 1;
    /// Nothing goes direct from here: every connection into the mesh is encrypted, also on the node.
    pub const ALWAYS_ENCRYPT: u32 = 1 << 2;
}

/// `WORKLOADS[cookie]`: an enrolled workload.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Workload {
    /// Its first IPv6 address.
    pub v6: Addr,
    /// Its first IPv4 address, in network byte order.
    pub v4: u32,
    /// See [`workload`].
    pub flags: u32,
    /// Of the role that has most of them, so many listeners stand in `LISTENERS`, from slot 0; connections go to them in turn.
    pub listeners: u32,
}

/// Kinds and flags of a [`Destination`].
pub mod destination {
    /// The address of a workload.
    pub const WORKLOAD: u32 = 1;
    /// The virtual address of a service.
    pub const SERVICE: u32 = 2;

    /// Every source may reach the workload: no need to look up the pair.
    pub const ALLOW_ALL: u32 = 1;
    /// Never direct: a waypoint stands before it, or its namespace always encrypts.
    pub const TO_AGENT: u32 = 1 << 1;
    /// A service of which no endpoint is in the mesh: nothing about connections to it is protected.
    pub const OUTSIDE: u32 = 1 << 2;
    /// An address from outside that leads to services on their own ports; on others the mesh does not know it.
    pub const EXTERNAL: u32 = 1 << 3;
}

/// `DESTINATIONS[addr]`: an address that the mesh knows.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Destination {
    /// The workload's cookie where it is enrolled on this node, else 0.
    pub cookie: u64,
    /// See [`destination`].
    pub kind: u32,
    /// See [`destination`].
    pub flags: u32,
}

/// Flags of a [`Service`].
pub mod service {
    /// Always to the agent: a waypoint stands before it, or a client stays with its endpoint.
    pub const TO_AGENT: u32 = 1;
}

/// `SERVICES[vip:port]`: one port of a service.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Service {
    /// How many endpoints take new connections.
    pub total: u32,
    /// How many of them are enrolled on this node; these stand in `BACKENDS`, from index 0.
    pub local: u32,
    /// See [`service`].
    pub flags: u32,
}

/// The key of `BACKENDS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct BackendKey {
    /// The service's address and port.
    pub service: Endpoint,
    /// From 0 to [`Service::local`].
    pub index: u32,
}

/// `BACKENDS[..]`: an endpoint of a service on this node.
pub type Backend = Endpoint;

/// The key of `PAIRS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct PairKey {
    /// The source's cookie.
    pub source: u64,
    /// The destination's cookie.
    pub destination: u64,
    /// The destination's port; 0 stands for every port that no policy mentions.
    pub port: u32,
    /// Zero.
    pub pad: u32,
}

/// Values of `PAIRS`.
pub mod pair {
    /// The policies allow the connection.
    pub const ALLOW: u32 = 1;
    /// The policies refuse the connection.
    pub const DENY: u32 = 2;
}

/// The key of `PLAIN`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct PlainKey {
    /// The destination's cookie.
    pub cookie: u64,
    /// The destination's port; 0 stands for every port that no policy mentions.
    pub port: u32,
    /// Zero.
    pub pad: u32,
}

/// Values of `PLAIN`: what becomes of a connection from outside that comes without a tunnel. Where there is none, the agent
/// decides.
pub mod plain {
    /// The agent decides.
    pub const AGENT: u32 = 0;
    /// The policies allow it, whoever it comes from.
    pub const ALLOW: u32 = 1;
}

/// The key of `ARRIVALS`: a connection that is about to reach a namespace on this node.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ArrivalKey {
    /// The cookie of the namespace that it reaches.
    pub cookie: u64,
    /// The client's address and port.
    pub source: Endpoint,
    /// The address and port that it connects to.
    pub destination: Endpoint,
}

/// Kinds of an [`Arrival`].
pub mod arrival {
    /// Captured on its way out: meant for the agent's outbound listener in the same pod.
    pub const CAPTURED: u32 = 1;
    /// From another workload on the node, allowed by policy: meant for the application.
    pub const DIRECT: u32 = 2;
    /// From the workload itself: meant for the application.
    pub const OWN: u32 = 3;
    /// From the node's own namespace (kubelet's probes): meant for the application.
    pub const NODE: u32 = 4;
    /// The agent's delivery of what it let through: meant for the application.
    pub const DELIVERY: u32 = 5;

    /// Bit of [`super::Arrival::flags`]: the kernel's random pick fell on an endpoint that is not on this node.
    pub const REMOTE_ONLY: u32 = 1;
    /// Bit of [`super::Arrival::flags`]: the connection was established. The record lets in no other one of the same addresses
    /// and ports.
    pub const SPENT: u32 = 1 << 1;
}

/// `ARRIVALS[..]`: what that connection is.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Arrival {
    /// The client's cookie.
    pub source: u64,
    /// Where the application meant to connect.
    pub original: Endpoint,
    /// The service endpoint that was picked, if any.
    pub backend: Endpoint,
    /// See [`arrival`].
    pub kind: u32,
    /// See [`arrival`].
    pub flags: u32,
    /// When it was asked for, in nanoseconds of the monotonic clock, taken before it was decided about.
    pub opened_ns: u64,
}

/// The storage that goes with a client's socket, from its `connect` to its end; or with a server's, from its acceptance, when
/// the client came from outside and was let in without the agent ([`crate::verdict::PLAIN`]).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SocketState {
    /// What to record before the first packet leaves. Of a server's socket only `original` is set, to its client.
    pub arrival: Arrival,
    /// Under which cookie to record it; 0 for nowhere on this node. Of a server's socket, its own cookie.
    pub destination: u64,
    /// A verdict, see [`crate::verdict`]; 0 for a socket that is not accounted.
    pub verdict: u32,
    /// Non-zero once the connection was established.
    pub established: u32,
    /// What the kernel's byte counters hold besides the application's bytes.
    pub excess: Excess,
    /// Non-zero once the application let go of the socket.
    pub released: u32,
    /// Zero.
    pub pad: u32,
}

/// SYN and FIN count as a byte each in the kernel's counters: how many of them do by now.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Excess {
    /// Bytes received when the peer had acknowledged our FIN.
    pub received_by_fin: u64,
    /// Among the acknowledged bytes.
    pub sent: u32,
    /// Among the received bytes.
    pub received: u32,
}

/// Roles of a listener.
pub mod listener {
    /// Takes captured outbound connections.
    pub const OUTBOUND: u32 = 1;
    /// Takes plaintext inbound connections.
    pub const INBOUND: u32 = 2;
    /// Takes HBONE.
    pub const HBONE: u32 = 3;
}

/// The key of `LISTENERS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ListenerKey {
    /// The pod's cookie.
    pub cookie: u64,
    /// See [`listener`].
    pub role: u32,
    /// From 0 to [`Workload::listeners`].
    pub slot: u32,
}
