//! The client's side of one tunnel connection.

use super::{
    error::HboneError,
    headers::{Authority, Baggage, Forwarded, Traceparent},
    keepalive::Keepalive,
    settings::{REMEMBERED_RESETS, SMALL_FRAMES, Settings},
    stream::{Held, Stream},
    window::Window,
};
use crate::tls::{TlsIo, WorkloadCert, handshake};
use bytes::Bytes;
use h2::client::{Builder, Connection, SendRequest};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, header::FORWARDED};
use std::{
    future::{Future, poll_fn},
    net::SocketAddr,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::Poll,
};
use tokio::net::TcpStream;
use weft_model::Identity;

/// What a CONNECT asks for.
#[derive(Clone, Debug)]
pub struct Connect {
    /// Where the tunnel shall lead.
    pub authority: Authority,
    /// The original client.
    pub forwarded: Option<Forwarded>,
    /// The source workload's names.
    pub baggage: Option<Baggage>,
    /// The trace that the connection belongs to.
    pub traceparent: Option<Traceparent>,
}

impl Connect {
    /// A request for a tunnel to `authority`, without further headers.
    pub fn to(authority: impl Into<Authority>) -> Self {
        Self { authority: authority.into(), forwarded: None, baggage: None, traceparent: None }
    }

    fn request(&self) -> Result<Request<()>, http::Error> {
        let uri = Uri::builder().authority(self.authority.to_string()).build()?;
        let mut request = Request::builder().method(Method::CONNECT).uri(uri).body(())?;
        let headers = request.headers_mut();
        let forwarded = self.forwarded.as_ref().map(ToString::to_string);
        insert(headers, FORWARDED.as_str(), forwarded)?;
        let baggage = self.baggage.as_ref().map(ToString::to_string);
        insert(headers, "baggage", baggage.filter(|value| !value.is_empty()))?;
        insert(headers, "traceparent", self.traceparent.map(|value| value.to_string()))?;
        Ok(request)
    }
}

fn insert(headers: &mut HeaderMap, name: &'static str, value: Option<String>) -> Result<(), http::Error> {
    if let Some(value) = value {
        headers.insert(name, HeaderValue::try_from(value)?);
    }
    Ok(())
}

/// A connection that is ready for streams, and the future that carries its bytes.
pub(super) struct Established {
    pub(super) sender: Sender,
    pub(super) driver: Driver,
}

/// Opens streams on one connection.
#[derive(Clone)]
pub(super) struct Sender {
    addr: SocketAddr,
    peer: Rc<Identity>,
    requests: SendRequest<Bytes>,
}

/// Carries a connection's bytes for as long as it is polled.
pub(super) struct Driver {
    connection: Connection<TlsIo, Bytes>,
    keepalive: Keepalive,
    // Dropped last: what was lent is free only when nothing is buffered any more.
    window: Window,
}

/// Makes the connection's TLS and HTTP/2 ready on `tcp`.
pub(super) async fn establish(
    tcp: TcpStream,
    addr: SocketAddr,
    cert: &WorkloadCert,
    expected: &Arc<[Identity]>,
    settings: &Settings,
) -> Result<Established, HboneError> {
    let config = cert.client_config(expected)?;
    let secured = handshake::connect(tcp, config).await.map_err(|source| HboneError::Tls { addr, source })?;
    let window = Window::new(settings, &settings.outgoing_budget);
    let (requests, mut connection) = Builder::new()
        .initial_window_size(settings.stream_window)
        .initial_connection_window_size(window.size())
        .max_frame_size(settings.max_frame_size)
        .max_header_list_size(settings.max_header_list)
        .max_send_buffer_size(settings.send_buffer)
        .data_frame_budget(SMALL_FRAMES)
        .initial_max_send_streams(settings.max_outgoing_streams)
        .enable_push(false)
        .max_concurrent_reset_streams(REMEMBERED_RESETS)
        // The peer was chosen and proved who it is; streams that cross on the wire are no fault of its.
        .max_local_error_reset_streams(None)
        .handshake(secured.io)
        .await
        .map_err(|source| HboneError::Http2 { addr, source: Arc::new(source) })?;
    let keepalive = Keepalive::new(connection.ping_pong(), settings.ping_interval, settings.ping_timeout);
    let sender = Sender { addr, peer: Rc::new(secured.peer), requests };
    Ok(Established { sender, driver: Driver { connection, keepalive, window } })
}

impl Driver {
    /// Ready when the connection has ended, whatever the cause; its streams have been told by then. `streams` tells how
    /// many it has, for its window grows with them.
    pub(super) async fn run(mut self, streams: impl Fn() -> usize) {
        poll_fn(|cx| {
            if self.window.grow(streams()) {
                self.connection.set_target_window_size(self.window.size());
            }
            if Pin::new(&mut self.connection).poll(cx).is_ready() {
                return Poll::Ready(());
            }
            self.keepalive.poll_lost(cx)
        })
        .await;
    }
}

impl Sender {
    /// How many streams the peer allows at once.
    pub(super) fn peer_limit(&self) -> usize {
        self.requests.current_max_send_streams()
    }

    /// Opens a stream and waits for the peer's answer; `held` lives as long as the stream.
    pub(super) async fn open(&self, connect: &Connect, held: Box<dyn Held>) -> Result<Stream, HboneError> {
        let addr = self.addr;
        let failed = |source| HboneError::Http2 { addr, source: Arc::new(source) };
        let request = connect.request().map_err(|_| failed(h2::Reason::INTERNAL_ERROR.into()))?;
        let mut requests = self.requests.clone().ready().await.map_err(failed)?;
        let (response, send) = requests.send_request(request, false).map_err(failed)?;
        let response = response.await.map_err(failed)?;
        match response.status() {
            StatusCode::OK => Ok(Stream::new(send, response.into_body(), self.peer.clone(), Some(held))),
            status => Err(HboneError::Refused { addr, status }),
        }
    }
}
