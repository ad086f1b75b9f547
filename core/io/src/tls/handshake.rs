//! TLS handshakes that end with a known peer.

use super::{
    config::ALPN,
    spiffe::{SpiffeError, identity_of},
};
use rustls::{
    CertificateError, ClientConfig, CommonState, HandshakeKind, ServerConfig,
    pki_types::{CertificateDer, ServerName},
};
use std::{io, sync::Arc, time::SystemTime};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};
use weft_model::Identity;
use x509_parser::prelude::{FromDer, X509Certificate};

/// The byte stream inside TLS.
pub type TlsIo = TlsStream<TcpStream>;

/// A connection after its handshake.
#[derive(Debug)]
pub struct Secured {
    /// The bytes inside.
    pub io: TlsIo,
    /// Who is at the other end.
    pub peer: Identity,
    /// Whether an earlier session was resumed, which spares both sides the certificates' signatures.
    pub resumed: bool,
}

/// Why a handshake failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TlsError {
    /// The peer's certificate is not acceptable to us.
    #[error("{0}")]
    Peer(#[from] SpiffeError),
    /// TLS itself refuses: an expired certificate, an unknown issuer, an alert of the peer.
    #[error("{0}")]
    Protocol(rustls::Error),
    /// The peer agreed on no protocol, or on one other than HTTP/2.
    #[error("the peer does not speak HTTP/2 inside TLS")]
    NoHttp2,
    /// The socket failed.
    #[error("{0}")]
    Io(Arc<io::Error>),
}

impl From<io::Error> for TlsError {
    fn from(error: io::Error) -> Self {
        let inner = error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>());
        match inner {
            Some(rustls::Error::InvalidCertificate(CertificateError::Other(other))) => {
                match other.0.downcast_ref::<SpiffeError>() {
                    Some(spiffe) => Self::Peer(spiffe.clone()),
                    None => Self::Protocol(CertificateError::Other(other.clone()).into()),
                }
            }
            Some(tls) => Self::Protocol(tls.clone()),
            None => Self::Io(Arc::new(error)),
        }
    }
}

/// The client's side of a handshake over `tcp`.
pub async fn connect(tcp: TcpStream, config: Arc<ClientConfig>) -> Result<Secured, TlsError> {
    // The name is never sent (no SNI) and never compared: it is the address under which sessions are kept.
    let name = ServerName::IpAddress(tcp.peer_addr()?.ip().to_canonical().into());
    let io = TlsConnector::from(config).connect(name, tcp).await?;
    secured(io.into())
}

/// The server's side of a handshake over `tcp`.
pub async fn accept(tcp: TcpStream, config: Arc<ServerConfig>) -> Result<Secured, TlsError> {
    let io = TlsAcceptor::from(config).accept(tcp).await?;
    secured(io.into())
}

fn secured(io: TlsIo) -> Result<Secured, TlsError> {
    let state: &CommonState = io.get_ref().1;
    if state.alpn_protocol() != Some(ALPN) {
        return Err(TlsError::NoHttp2);
    }
    let resumed = state.handshake_kind() == Some(HandshakeKind::Resumed);
    let leaf = state.peer_certificates().and_then(<[_]>::first).ok_or(SpiffeError::NoIdentity)?;
    if resumed {
        // rustls carries the certificate over from the first session and does not look at it again.
        still_valid(leaf)?;
    }
    let peer = identity_of(leaf)?;
    Ok(Secured { io, peer, resumed })
}

fn still_valid(leaf: &CertificateDer<'_>) -> Result<(), TlsError> {
    let (_, parsed) = X509Certificate::from_der(leaf).map_err(|e| SpiffeError::Unreadable(e.to_string()))?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    if parsed.validity().not_after.timestamp().max(0).unsigned_abs() <= now.as_secs() {
        return Err(TlsError::Protocol(CertificateError::Expired.into()));
    }
    Ok(())
}
