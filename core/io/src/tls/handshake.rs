//! TLS handshakes that end with a known peer.

use super::{
    config::ALPN,
    record::BadRecord,
    session::Session,
    spiffe::{SpiffeError, identity_of},
    stream::TlsIo,
};
use bytes::BufMut;
use rustls::{
    CertificateError, ClientConfig, CommonState, HandshakeKind, ServerConfig,
    client::{ClientConnectionData, UnbufferedClientConnection},
    pki_types::{CertificateDer, ServerName},
    server::{ServerConnectionData, UnbufferedServerConnection},
    unbuffered::{ConnectionState, EncodeError, EncodeTlsData, UnbufferedStatus},
};
use std::{io, sync::Arc, time::SystemTime};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use weft_model::{Identity, clip};
use x509_parser::prelude::{FromDer, X509Certificate};

/// How much of a handshake is read at once, in bytes.
const READ: usize = 8 << 10;
/// The most that may wait to be understood during a handshake, in bytes; rustls refuses longer messages itself.
const LONGEST_FLIGHT: usize = 80 << 10;

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
    /// What followed the handshake is not TLS.
    #[error(transparent)]
    Record(#[from] BadRecord),
    /// The socket failed.
    #[error("{0}")]
    Io(Arc<io::Error>),
}

impl From<io::Error> for TlsError {
    fn from(error: io::Error) -> Self {
        Self::Io(Arc::new(error))
    }
}

impl From<rustls::Error> for TlsError {
    fn from(error: rustls::Error) -> Self {
        if let rustls::Error::InvalidCertificate(CertificateError::Other(other)) = &error
            && let Some(spiffe) = other.0.downcast_ref::<SpiffeError>()
        {
            return Self::Peer(spiffe.clone());
        }
        Self::Protocol(error)
    }
}

/// The client's side of a handshake over `tcp`.
pub async fn connect(tcp: TcpStream, config: Arc<ClientConfig>) -> Result<Secured, TlsError> {
    // The name is never sent (no SNI) and never compared: it is the address under which sessions are kept.
    let name = ServerName::IpAddress(tcp.peer_addr()?.ip().to_canonical().into());
    secure(tcp, UnbufferedClientConnection::new(config, name)?).await
}

/// The server's side of a handshake over `tcp`.
pub async fn accept(tcp: TcpStream, config: Arc<ServerConfig>) -> Result<Secured, TlsError> {
    secure(tcp, UnbufferedServerConnection::new(config)?).await
}

/// What both kinds of rustls connections can do; their process functions are alike but share no trait.
trait Handshake {
    type Data;

    fn process<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data>;
    fn state(&self) -> &CommonState;
    fn into_session(self) -> Result<Session, rustls::Error>;
}

impl Handshake for UnbufferedClientConnection {
    type Data = ClientConnectionData;

    fn process<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(incoming)
    }

    fn state(&self) -> &CommonState {
        self
    }

    fn into_session(self) -> Result<Session, rustls::Error> {
        Session::client(self)
    }
}

impl Handshake for UnbufferedServerConnection {
    type Data = ServerConnectionData;

    fn process<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(incoming)
    }

    fn state(&self) -> &CommonState {
        self
    }

    fn into_session(self) -> Result<Session, rustls::Error> {
        Session::server(self)
    }
}

/// Does the handshake of `connection` and checks what came of it.
async fn secure<C: Handshake>(mut tcp: TcpStream, mut connection: C) -> Result<Secured, TlsError> {
    tcp.set_nodelay(true)?;
    let mut wire = Wire::default();
    if let Err(error) = wire.shake(&mut tcp, &mut connection).await {
        // The peer is owed the alert that says why; whether it still listens does not change our error.
        let _ = wire.say_why(&mut tcp, &mut connection).await;
        return Err(error);
    }
    let (peer, resumed) = peer_of(connection.state())?;
    let io = TlsIo::new(tcp, connection.into_session()?, &wire.plain, &wire.incoming)?;
    Ok(Secured { io, peer, resumed })
}

/// The bytes of a handshake on their way in and out.
#[derive(Default)]
struct Wire {
    incoming: Vec<u8>,
    outgoing: Vec<u8>,
    /// What the peer said inside TLS while we still finished the handshake.
    plain: Vec<u8>,
}

impl Wire {
    async fn shake<C: Handshake>(&mut self, tcp: &mut TcpStream, connection: &mut C) -> Result<(), TlsError> {
        loop {
            let UnbufferedStatus { mut discard, state } = connection.process(&mut self.incoming);
            let mut more = false;
            let mut done = false;
            let state = match state {
                Ok(state) => state,
                Err(error) => {
                    self.incoming.drain(..discard);
                    return Err(error.into());
                }
            };
            match state {
                ConnectionState::EncodeTlsData(message) => encode(message, &mut self.outgoing)?,
                ConnectionState::TransmitTlsData(transmit) => {
                    tcp.write_all(&self.outgoing).await?;
                    self.outgoing.clear();
                    transmit.done();
                }
                ConnectionState::ReadTraffic(mut traffic) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record?;
                        discard += record.discard;
                        self.plain.extend_from_slice(record.payload);
                    }
                }
                ConnectionState::BlockedHandshake => more = true,
                ConnectionState::WriteTraffic(_) => done = true,
                _ => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            }
            self.incoming.drain(..discard);
            if done && !connection.state().is_handshaking() {
                return Ok(());
            }
            if more || done {
                self.read(tcp).await?;
            }
        }
    }

    async fn read(&mut self, tcp: &mut TcpStream) -> Result<(), TlsError> {
        if self.incoming.len() >= LONGEST_FLIGHT {
            return Err(BadRecord::Flood.into());
        }
        // Bounded by the flight's limit above and one buffer beyond it.
        self.incoming.reserve(READ);
        match tcp.read_buf(&mut (&mut self.incoming).limit(READ)).await? {
            0 => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            _ => Ok(()),
        }
    }

    /// Sends what rustls still has to say after a failure: its alert.
    async fn say_why<C: Handshake>(
        &mut self,
        tcp: &mut TcpStream,
        connection: &mut C,
    ) -> Result<(), TlsError> {
        // Only while something waits to be sent: beyond that rustls would go on reading.
        while connection.state().wants_write() {
            match connection.process(&mut self.incoming).state {
                Ok(ConnectionState::EncodeTlsData(message)) => encode(message, &mut self.outgoing)?,
                _ => break,
            }
        }
        tcp.write_all(&self.outgoing).await?;
        tcp.shutdown().await?;
        Ok(())
    }
}

fn encode<D>(mut message: EncodeTlsData<'_, D>, outgoing: &mut Vec<u8>) -> Result<(), TlsError> {
    let start = outgoing.len();
    let wanted = match message.encode(&mut []) {
        Err(EncodeError::InsufficientSize(size)) => size.required_size,
        _ => return Err(rustls::Error::General("an empty handshake message".into()).into()),
    };
    outgoing.resize(start + wanted, 0);
    match message.encode(&mut outgoing[start..]) {
        Ok(_) => Ok(()),
        Err(error) => Err(rustls::Error::General(error.to_string()).into()),
    }
}

fn peer_of(state: &CommonState) -> Result<(Identity, bool), TlsError> {
    if state.alpn_protocol() != Some(ALPN) {
        return Err(TlsError::NoHttp2);
    }
    let resumed = state.handshake_kind() == Some(HandshakeKind::Resumed);
    let leaf = state.peer_certificates().and_then(<[_]>::first).ok_or(SpiffeError::NoIdentity)?;
    if resumed {
        // rustls carries the certificate over from the first session and does not look at it again.
        still_valid(leaf)?;
    }
    Ok((identity_of(leaf)?, resumed))
}

fn still_valid(leaf: &CertificateDer<'_>) -> Result<(), TlsError> {
    let (_, parsed) = X509Certificate::from_der(leaf).map_err(|e| SpiffeError::Unreadable(clip(&e)))?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    if parsed.validity().not_after.timestamp().max(0).unsigned_abs() <= now.as_secs() {
        return Err(rustls::Error::from(CertificateError::Expired).into());
    }
    Ok(())
}
