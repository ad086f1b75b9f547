//! The closed set of reasons why a connection ended or never began.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Why a connection ended the way it did: one value for the log line, the metric label, the span and the CLI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Both sides ended in peace.
    Ok,
    /// A policy refuses it (DENY matched, or ALLOW policies exist and none matched).
    PolicyDenied,
    /// A policy was made for the workload that this node never received: what it says is unknown, so all is refused.
    PolicyUnknown,
    /// Mutual TLS is demanded and the client came without.
    PlaintextRefused,
    /// A policy that came later refuses it: the live connection was closed.
    PolicyChanged,
    /// The service has no healthy endpoint.
    NoHealthyEndpoint,
    /// The service does not have this port.
    UnknownPort,
    /// The destination is not one that the mesh knows how to reach.
    UnknownDestination,
    /// The waypoint that must be passed is not known, or has no endpoint.
    UnknownWaypoint,
    /// TCP to the next hop failed.
    ConnectFailed,
    /// TCP to the next hop took too long.
    ConnectTimeout,
    /// The application's port is closed.
    ConnectionRefused,
    /// TLS failed: the peer's certificate, its name, or the handshake itself.
    TlsFailure,
    /// The peer spoke HBONE wrongly, or named a target that it must not.
    BadRequest,
    /// The peer refused the CONNECT.
    RejectedByPeer,
    /// No certificate for the workload's identity is at hand.
    NoCertificate,
    /// The client reset the connection.
    ClientReset,
    /// The server reset the connection.
    ServerReset,
    /// The tunnel broke under it.
    TunnelLost,
    /// The proxy was told to go and the drain time was over.
    Drained,
    /// Somebody closed it by hand.
    ClosedByOperator,
    /// The workload left the mesh or the node.
    WorkloadGone,
    /// A limit of this proxy was reached (connections, files, memory).
    LimitReached,
    /// A fault of this proxy.
    Internal,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Reason; 24] = [
        Reason::Ok,
        Reason::PolicyDenied,
        Reason::PolicyUnknown,
        Reason::PlaintextRefused,
        Reason::PolicyChanged,
        Reason::NoHealthyEndpoint,
        Reason::UnknownPort,
        Reason::UnknownDestination,
        Reason::UnknownWaypoint,
        Reason::ConnectFailed,
        Reason::ConnectTimeout,
        Reason::ConnectionRefused,
        Reason::TlsFailure,
        Reason::BadRequest,
        Reason::RejectedByPeer,
        Reason::NoCertificate,
        Reason::ClientReset,
        Reason::ServerReset,
        Reason::TunnelLost,
        Reason::Drained,
        Reason::ClosedByOperator,
        Reason::WorkloadGone,
        Reason::LimitReached,
        Reason::Internal,
    ];

    /// The name used in logs and by the CLI.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Ok => "ok",
            Reason::PolicyDenied => "policy_denied",
            Reason::PolicyUnknown => "policy_unknown",
            Reason::PlaintextRefused => "plaintext_refused",
            Reason::PolicyChanged => "policy_changed",
            Reason::NoHealthyEndpoint => "no_healthy_endpoint",
            Reason::UnknownPort => "unknown_port",
            Reason::UnknownDestination => "unknown_destination",
            Reason::UnknownWaypoint => "unknown_waypoint",
            Reason::ConnectFailed => "connect_failed",
            Reason::ConnectTimeout => "connect_timeout",
            Reason::ConnectionRefused => "connection_refused",
            Reason::TlsFailure => "tls_failure",
            Reason::BadRequest => "bad_request",
            Reason::RejectedByPeer => "rejected_by_peer",
            Reason::NoCertificate => "no_certificate",
            Reason::ClientReset => "client_reset",
            Reason::ServerReset => "server_reset",
            Reason::TunnelLost => "tunnel_lost",
            Reason::Drained => "drained",
            Reason::ClosedByOperator => "closed_by_operator",
            Reason::WorkloadGone => "workload_gone",
            Reason::LimitReached => "limit_reached",
            Reason::Internal => "internal",
        }
    }

    /// The value of Istio's `response_flags` metric label; dashboards know these words.
    pub fn response_flags(self) -> &'static str {
        match self {
            Reason::PolicyDenied
            | Reason::PolicyUnknown
            | Reason::PlaintextRefused
            | Reason::PolicyChanged => "DENY",
            Reason::TlsFailure | Reason::NoCertificate => "TLS_FAILURE",
            Reason::ConnectFailed
            | Reason::ConnectTimeout
            | Reason::ConnectionRefused
            | Reason::NoHealthyEndpoint
            | Reason::UnknownPort
            | Reason::UnknownDestination
            | Reason::UnknownWaypoint
            | Reason::RejectedByPeer => "CONNECT",
            Reason::BadRequest | Reason::LimitReached | Reason::Internal | Reason::TunnelLost => "ERROR",
            Reason::Ok
            | Reason::ClientReset
            | Reason::ServerReset
            | Reason::Drained
            | Reason::ClosedByOperator
            | Reason::WorkloadGone => "-",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
