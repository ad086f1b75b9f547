//! Accounting: what is told of a connection.

use crate::Endpoint;

/// Which way a connection went.
pub mod verdict {
    /// Not into the mesh: untouched.
    pub const PASS: u32 = 1;
    /// Straight to a workload on the same node.
    pub const DIRECT: u32 = 2;
    /// Captured for the agent.
    pub const AGENT: u32 = 3;
    /// Refused by policy.
    pub const DENY: u32 = 4;
    /// To the workload itself.
    pub const OWN: u32 = 5;
    /// From outside without a tunnel, straight to the application: seen at the server's socket, told as its client would.
    pub const PLAIN: u32 = 6;
}

/// A connection from or to an enrolled workload, as its client's socket sees it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flow {
    /// The socket's cookie.
    pub socket: u64,
    /// The client's workload; 0 for one from outside.
    pub source: u64,
    /// The destination's workload where it is on this node, else 0.
    pub destination: u64,
    /// When it was asked for, in nanoseconds of the monotonic clock.
    pub opened_ns: u64,
    /// When these figures were taken, on the same clock.
    pub updated_ns: u64,
    /// Bytes that the peer acknowledged.
    pub bytes_sent: u64,
    /// Bytes received.
    pub bytes_received: u64,
    /// The client's address and port; port 0 for one that was refused before it had any.
    pub client: Endpoint,
    /// Where the application meant to connect.
    pub original: Endpoint,
    /// The service endpoint that was picked, if any.
    pub backend: Endpoint,
    /// Smoothed round-trip time in microseconds.
    pub srtt_us: u32,
    /// Retransmitted segments.
    pub retransmits: u32,
    /// See [`verdict`].
    pub verdict: u32,
    /// Non-zero once the connection was established.
    pub established: u32,
    /// See [`ending`].
    pub ending: u32,
}

/// How a connection ended.
pub mod ending {
    /// In peace, or not yet.
    pub const PEACE: u32 = 0;
    /// The client reset it.
    pub const CLIENT_RESET: u32 = 1;
    /// The server reset it, or fell silent until the client's kernel gave it up.
    pub const SERVER_RESET: u32 = 2;
}

/// Kinds of an [`Event`].
pub mod event {
    /// A connection was established.
    pub const OPEN: u32 = 1;
    /// A connection ended, or was never established (see [`super::Flow::established`]).
    pub const CLOSE: u32 = 2;
    /// A connection was refused by policy.
    pub const DENY: u32 = 3;
}

/// One entry of the ring buffer `EVENTS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// The connection.
    pub flow: Flow,
    /// See [`event`].
    pub kind: u32,
    /// Zero.
    pub pad: u32,
}
