//! What can go wrong when a tunnel is opened.

use crate::tls::{BadCertificate, TlsError};
use http::StatusCode;
use std::{io, net::SocketAddr, sync::Arc};
use weft_model::Reason;

/// Why a stream could not be opened. Cheap to clone: all who waited for one connection get the same answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum HboneError {
    /// TCP to the peer failed.
    #[error("cannot connect to {addr}: {source}")]
    Connect {
        /// The peer.
        addr: SocketAddr,
        /// What the kernel said.
        source: Arc<io::Error>,
    },
    /// TCP, TLS or HTTP/2 took too long.
    #[error("connecting to {addr} took too long")]
    ConnectTimeout {
        /// The peer.
        addr: SocketAddr,
    },
    /// Our own certificate cannot be used.
    #[error(transparent)]
    Certificate(#[from] BadCertificate),
    /// The handshake failed.
    #[error("TLS with {addr} failed: {source}")]
    Tls {
        /// The peer.
        addr: SocketAddr,
        /// Why.
        source: TlsError,
    },
    /// HTTP/2 failed.
    #[error("HTTP/2 with {addr} failed: {source}")]
    Http2 {
        /// The peer.
        addr: SocketAddr,
        /// Why.
        source: Arc<h2::Error>,
    },
    /// The peer answered the CONNECT with something other than success.
    #[error("{addr} refused the tunnel with status {status}")]
    Refused {
        /// The peer.
        addr: SocketAddr,
        /// Its answer.
        status: StatusCode,
    },
    /// The peer did not answer the CONNECT in time.
    #[error("{addr} did not answer the CONNECT in time")]
    AnswerTimeout {
        /// The peer.
        addr: SocketAddr,
    },
    /// The pool is going away.
    #[error("the pool of tunnels is closed")]
    PoolClosed,
}

impl HboneError {
    /// The reason to record for a connection that ends with this error.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Connect { source, .. } => match source.kind() {
                io::ErrorKind::ConnectionRefused => Reason::ConnectionRefused,
                io::ErrorKind::TimedOut => Reason::ConnectTimeout,
                _ if matches!(source.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)) => {
                    Reason::LimitReached
                }
                _ => Reason::ConnectFailed,
            },
            Self::ConnectTimeout { .. } | Self::AnswerTimeout { .. } => Reason::ConnectTimeout,
            Self::Certificate(_) => Reason::NoCertificate,
            Self::Tls { .. } => Reason::TlsFailure,
            Self::Http2 { source, .. } if source.is_reset() => Reason::RejectedByPeer,
            // Of all that is under HTTP/2 only TLS calls data invalid: the server refused our certificate, which in
            // TLS 1.3 a client hears of after its handshake.
            Self::Http2 { source, .. }
                if source.get_io().is_some_and(|e| e.kind() == io::ErrorKind::InvalidData) =>
            {
                Reason::TlsFailure
            }
            Self::Http2 { .. } => Reason::TunnelLost,
            // The peer is willing, and the application behind it cannot be reached.
            Self::Refused { status: StatusCode::SERVICE_UNAVAILABLE, .. } => Reason::ConnectFailed,
            Self::Refused { .. } => Reason::RejectedByPeer,
            Self::PoolClosed => Reason::Drained,
        }
    }

    /// Whether the peer surely did nothing with the request, so that another connection may be tried at once.
    pub(super) fn may_retry(&self) -> bool {
        match self {
            Self::Http2 { source, .. } => {
                // REFUSED_STREAM and a GOAWAY without an error both promise that the stream was not touched.
                source.reason() == Some(h2::Reason::REFUSED_STREAM)
                    || (source.is_go_away() && source.reason() == Some(h2::Reason::NO_ERROR))
            }
            _ => false,
        }
    }

    /// Whether the connection itself failed, and not the request alone.
    pub(super) fn ends_connection(&self) -> bool {
        matches!(self, Self::Http2 { source, .. } if !source.is_reset())
    }
}
