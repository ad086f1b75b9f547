//! What the kernel knows of a connection.

use std::{net::SocketAddr, time::Duration};
use weft_ebpf_abi::{self as abi, ending, verdict};

/// Which way a connection went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Not into the mesh: untouched.
    Pass,
    /// Straight to a workload on the same node.
    Direct,
    /// Captured for the agent.
    Agent,
    /// Refused by policy.
    Deny,
    /// To the workload itself.
    Own,
    /// From outside without a tunnel, straight to the application.
    Plain,
}

impl Verdict {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Direct => "direct",
            Self::Agent => "agent",
            Self::Deny => "deny",
            Self::Own => "own",
            Self::Plain => "plain",
        }
    }

    fn from_abi(value: u32) -> Option<Self> {
        Some(match value {
            verdict::PASS => Self::Pass,
            verdict::DIRECT => Self::Direct,
            verdict::AGENT => Self::Agent,
            verdict::DENY => Self::Deny,
            verdict::OWN => Self::Own,
            verdict::PLAIN => Self::Plain,
            _ => return None,
        })
    }
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ending {
    /// In peace, or not yet.
    Peace,
    /// The client reset it.
    ClientReset,
    /// The server reset it, or fell silent until the client's kernel gave it up.
    ServerReset,
}

impl Ending {
    fn from_abi(value: u32) -> Option<Self> {
        Some(match value {
            ending::PEACE => Self::Peace,
            ending::CLIENT_RESET => Self::ClientReset,
            ending::SERVER_RESET => Self::ServerReset,
            _ => return None,
        })
    }
}

/// A connection, measured at its client's socket; at its server's, and told the client's way round, when it came from outside
/// ([`Verdict::Plain`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// The socket's cookie: one number for each connection while the machine runs.
    pub socket: u64,
    /// The cookie of the client's pod; 0 for one from outside.
    pub source: u64,
    /// The cookie of the destination's pod where it was reached without the agent (or refused) on this node.
    pub destination: Option<u64>,
    /// The client's address; `None` for one that was refused before it had any.
    pub client: Option<SocketAddr>,
    /// Where the application meant to connect.
    pub original: SocketAddr,
    /// The service endpoint that was picked.
    pub backend: Option<SocketAddr>,
    /// Which way it went.
    pub verdict: Verdict,
    /// Whether it was established.
    pub established: bool,
    /// How it ended.
    pub ending: Ending,
    /// When it was asked for, on the monotonic clock.
    pub opened: Duration,
    /// When these figures were taken, on the monotonic clock.
    pub updated: Duration,
    /// Bytes that the server acknowledged.
    pub bytes_sent: u64,
    /// Bytes received from the server.
    pub bytes_received: u64,
    /// Smoothed round-trip time.
    pub srtt: Duration,
    /// Segments that were sent again.
    pub retransmits: u32,
}

impl Flow {
    /// `None` for a verdict or an ending that this agent does not know.
    pub(super) fn from_abi(flow: &abi::Flow) -> Option<Self> {
        let endpoint = |at: abi::Endpoint| (at.port != 0).then(|| at.into());
        Some(Self {
            socket: flow.socket,
            source: flow.source,
            destination: (flow.destination != 0).then_some(flow.destination),
            client: endpoint(flow.client),
            original: flow.original.into(),
            backend: endpoint(flow.backend),
            verdict: Verdict::from_abi(flow.verdict)?,
            established: flow.established != 0,
            ending: Ending::from_abi(flow.ending)?,
            opened: Duration::from_nanos(flow.opened_ns),
            updated: Duration::from_nanos(flow.updated_ns),
            bytes_sent: flow.bytes_sent,
            bytes_received: flow.bytes_received,
            srtt: Duration::from_micros(flow.srtt_us.into()),
            retransmits: flow.retransmits,
        })
    }
}

/// What a live socket's counters say.
pub(super) struct Figures {
    pub(super) srtt_us: u32,
    pub(super) retransmits: u32,
    pub(super) bytes_sent: u64,
    pub(super) bytes_received: u64,
}

impl Flow {
    /// A live connection by what its socket, at `local`, carries; `None` for one that is not accounted, or not established.
    pub(super) fn live(
        socket: u64,
        local: SocketAddr,
        state: &abi::SocketState,
        figures: Figures,
    ) -> Option<Self> {
        let verdict = Verdict::from_abi(state.verdict)?;
        let backend = state.arrival.backend;
        let own = matches!(verdict, Verdict::Direct | Verdict::Plain);
        let (mut client, mut original) = (local, state.arrival.original.into());
        let (mut sent, mut received) = (figures.bytes_sent, figures.bytes_received);
        if verdict == Verdict::Plain {
            (client, original) = (original, client);
            (sent, received) = (received, sent);
        }
        (state.established != 0).then(|| Self {
            socket,
            source: state.arrival.source,
            destination: own.then_some(state.destination),
            client: Some(client),
            original,
            backend: (backend.port != 0).then(|| backend.into()),
            verdict,
            established: true,
            ending: Ending::Peace,
            opened: Duration::from_nanos(state.arrival.opened_ns),
            updated: now(),
            bytes_sent: sent,
            bytes_received: received,
            srtt: Duration::from_micros(figures.srtt_us.into()),
            retransmits: figures.retransmits,
        })
    }
}

/// The monotonic clock, as the programs read it.
pub fn now() -> Duration {
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).map(Duration::from).unwrap_or_default()
}
