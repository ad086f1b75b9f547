//! The server's side of tunnel connections.

use super::{
    headers::{Authority, Baggage, Forwarded, Traceparent},
    keepalive::Keepalive,
    settings::{FAULTY_STREAMS, REMEMBERED_RESETS, SMALL_FRAMES, Settings, UNSEEN_RESETS},
    stream::Stream,
    window::Window,
};
use crate::{
    lifecycle::drain::Watcher,
    tls::{TlsError, TlsIo, handshake},
};
use bytes::Bytes;
use h2::{
    RecvStream,
    server::{Builder, Connection, SendResponse},
};
use http::{HeaderMap, Method, Request, Response, StatusCode, header::FORWARDED};
use pin_project_lite::pin_project;
use rustls::ServerConfig;
use std::{
    future::{Future, poll_fn},
    pin::Pin,
    rc::Rc,
    str::FromStr,
    sync::Arc,
    task::{Context, Poll},
};
use tokio::{net::TcpStream, time::timeout};
use weft_model::Identity;

/// Why a tunnel connection ended badly.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The handshake failed.
    #[error("TLS failed: {0}")]
    Tls(#[from] TlsError),
    /// The client took too long to begin.
    #[error("the client took too long to finish its handshake")]
    HandshakeTimeout,
    /// HTTP/2 failed.
    #[error("HTTP/2 failed: {0}")]
    Http2(#[from] h2::Error),
    /// The client did not answer a PING.
    #[error("the client did not answer a PING in time")]
    PingTimeout,
    /// The drain's time was over.
    #[error("the drain's time was over")]
    Drained,
}

/// A CONNECT that waits for its answer; dropping it unanswered resets the stream.
#[derive(Debug)]
pub struct Incoming {
    /// Who asks, proven by its certificate.
    pub peer: Rc<Identity>,
    /// Where the tunnel shall lead.
    pub authority: Authority,
    /// Whom the peer says it speaks for; `None` also where the header cannot be read.
    pub forwarded: Option<Forwarded>,
    /// What the peer calls the source workload.
    pub baggage: Option<Baggage>,
    /// The trace that the connection belongs to.
    pub traceparent: Option<Traceparent>,
    respond: SendResponse<Bytes>,
    recv: RecvStream,
}

impl Incoming {
    /// Answers 200 and begins the tunnel.
    pub fn accept(mut self) -> Result<Stream, h2::Error> {
        let send = self.respond.send_response(Response::new(()), false)?;
        Ok(Stream::new(send, self.recv, self.peer, None))
    }

    /// Answers with `status` and ends the stream.
    pub fn refuse(mut self, status: StatusCode) {
        refuse(&mut self.respond, status);
    }
}

fn refuse(respond: &mut SendResponse<Bytes>, status: StatusCode) {
    let mut response = Response::new(());
    *response.status_mut() = status;
    // An error means that the client has gone, and with it the wish for an answer.
    let _ = respond.send_response(response, true);
}

/// Serves one tunnel connection until it ends; each CONNECT is handed to `handler`, in a task of its own.
///
/// When the drain begins the client is told to open no more streams (GOAWAY), and the connection ends with the last of
/// them, or by force when the drain is over. Needs a `LocalSet`.
pub async fn serve<H, F>(
    tcp: TcpStream,
    config: Arc<ServerConfig>,
    settings: &Settings,
    mut drain: Watcher,
    handler: H,
) -> Result<(), ServeError>
where
    H: Fn(Incoming) -> F,
    F: Future<Output = ()> + 'static,
{
    // The window is dropped last: what was lent is free only when nothing is buffered any more.
    let (mut window, mut connection, peer) = timeout(settings.connect_timeout, begin(tcp, config, settings))
        .await
        .map_err(|_| ServeError::HandshakeTimeout)??;
    let peer = Rc::new(peer);
    let mut keepalive = Keepalive::new(connection.ping_pong(), settings.ping_interval, settings.ping_timeout);
    let mut draining = false;
    // Held by each stream that is carried.
    let streams = Rc::new(());
    loop {
        let next = poll_fn(|cx| match connection.poll_accept(cx) {
            Poll::Ready(next) => Poll::Ready(next.transpose().map_err(ServeError::from)),
            Poll::Pending => keepalive.poll_lost(cx).map(|()| Err(ServeError::PingTimeout)),
        });
        let next = tokio::select! {
            biased;
            () = next_phase(&mut drain, draining) => None,
            next = next => Some(next?),
        };
        let (request, mut respond) = match next {
            Some(Some(accepted)) => accepted,
            Some(None) => return Ok(()),
            None if draining => return Err(ServeError::Drained),
            None => {
                draining = true;
                connection.graceful_shutdown();
                continue;
            }
        };
        match target(&request) {
            Ok(authority) => {
                let incoming = incoming(peer.clone(), authority, request, respond);
                tokio::task::spawn_local(Carried { stream: handler(incoming), _count: streams.clone() });
                if window.grow(Rc::strong_count(&streams) - 1) {
                    connection.set_target_window_size(window.size());
                }
            }
            Err(status) => refuse(&mut respond, status),
        }
    }
}

pin_project! {
    /// A stream that is carried, and counted for as long. (An async block around it would hold it twice.)
    struct Carried<F> {
        #[pin]
        stream: F,
        _count: Rc<()>,
    }
}

impl<F: Future<Output = ()>> Future for Carried<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.project().stream.poll(cx)
    }
}

async fn next_phase(drain: &mut Watcher, draining: bool) {
    if draining {
        drain.over().await;
    } else {
        drain.draining().await;
    }
}

async fn begin(
    tcp: TcpStream,
    config: Arc<ServerConfig>,
    settings: &Settings,
) -> Result<(Window, Connection<TlsIo, Bytes>, Identity), ServeError> {
    let secured = handshake::accept(tcp, config).await?;
    // Nothing is lent to strangers.
    let window = Window::new(settings, &settings.incoming_budget);
    let connection = Builder::new()
        .initial_window_size(settings.stream_window)
        .initial_connection_window_size(window.size())
        .max_frame_size(settings.max_frame_size)
        .max_header_list_size(settings.max_header_list)
        .max_concurrent_streams(settings.max_incoming_streams)
        .max_send_buffer_size(settings.send_buffer)
        .max_concurrent_reset_streams(REMEMBERED_RESETS)
        .max_pending_accept_reset_streams(UNSEEN_RESETS)
        .max_local_error_reset_streams(Some(FAULTY_STREAMS))
        .data_frame_budget(SMALL_FRAMES)
        .handshake(secured.io)
        .await?;
    Ok((window, connection, secured.peer))
}

/// Where the request leads, or the status to refuse it with.
fn target(request: &Request<RecvStream>) -> Result<Authority, StatusCode> {
    let extended = request.extensions().get::<h2::ext::Protocol>().is_some();
    if request.method() != Method::CONNECT || extended {
        return Err(StatusCode::BAD_REQUEST);
    }
    let authority = request.uri().authority().ok_or(StatusCode::BAD_REQUEST)?;
    authority.as_str().parse().map_err(|_| StatusCode::BAD_REQUEST)
}

fn incoming(
    peer: Rc<Identity>,
    authority: Authority,
    request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
) -> Incoming {
    let (head, recv) = request.into_parts();
    Incoming {
        peer,
        authority,
        forwarded: read(&head.headers, FORWARDED.as_str()),
        baggage: read(&head.headers, "baggage"),
        traceparent: read(&head.headers, "traceparent"),
        respond,
        recv,
    }
}

/// The value of a header that there is once; one that cannot be read is as good as none.
fn read<T: FromStr>(headers: &HeaderMap, name: &str) -> Option<T> {
    let mut values = headers.get_all(name).iter();
    let value = values.next().filter(|_| values.next().is_none())?;
    value.to_str().ok()?.parse().ok()
}
