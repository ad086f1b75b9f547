//! One tunnelled connection: an HTTP/2 stream in both directions.

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream};
use std::{
    fmt,
    rc::Rc,
    task::{Context, Poll, ready},
};
use weft_model::Identity;

/// How a stream broke.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The peer reset this stream: its side of the TCP connection was reset, or it was told to cut it.
    #[error("the peer reset the stream: {0}")]
    Reset(Reason),
    /// The connection underneath is gone, and all its streams with it.
    #[error("the tunnel is lost: {0}")]
    Lost(h2::Error),
}

impl From<h2::Error> for StreamError {
    fn from(error: h2::Error) -> Self {
        match error.reason() {
            Some(reason) if error.is_reset() => Self::Reset(reason),
            _ => Self::Lost(error),
        }
    }
}

/// Something whose drop tells the connection that a stream less is on it.
pub(super) trait Held {}
impl<T> Held for T {}

/// An open tunnel stream; dropping it before both directions have ended resets it.
pub struct Stream {
    send: SendStream<Bytes>,
    recv: RecvStream,
    peer: Rc<Identity>,
    reserved: usize,
    _held: Option<Box<dyn Held>>,
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("id", &self.send.stream_id()).finish_non_exhaustive()
    }
}

impl Stream {
    pub(super) fn new(
        send: SendStream<Bytes>,
        recv: RecvStream,
        peer: Rc<Identity>,
        held: Option<Box<dyn Held>>,
    ) -> Self {
        Self { send, recv, peer, reserved: 0, _held: held }
    }

    /// Who is at the other end, proven by its certificate.
    pub fn peer(&self) -> &Identity {
        &self.peer
    }

    /// The next bytes of the peer; `None` when it has ended its direction.
    ///
    /// What was taken must be given back with [`Stream::release`] once it has moved on, or the peer will stall.
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, StreamError>>> {
        loop {
            match ready!(self.recv.poll_data(cx)) {
                // Often the last frame is empty and only carries the end.
                Some(Ok(data)) if data.is_empty() => {}
                next => return Poll::Ready(next.map(|data| data.map_err(StreamError::from))),
            }
        }
    }

    /// Lets the peer send `bytes` more.
    pub fn release(&mut self, bytes: usize) {
        // An error says that the stream is closed, and then there is no window to widen.
        let _ = self.recv.flow_control().release_capacity(bytes);
    }

    /// Sends as much of `data` as the peer's window takes, at least one byte, and leaves the rest in it.
    pub fn poll_send(&mut self, cx: &mut Context<'_>, data: &mut Bytes) -> Poll<Result<usize, StreamError>> {
        if self.reserved != data.len() {
            self.send.reserve_capacity(data.len());
            self.reserved = data.len();
        }
        let mut room = self.send.capacity();
        while room == 0 {
            room = match ready!(self.send.poll_capacity(cx)) {
                Some(room) => room?,
                None => return Poll::Ready(Err(self.why_closed(cx))),
            };
        }
        let part = data.split_to(room.min(data.len()));
        let sent = part.len();
        self.reserved = data.len();
        self.send.send_data(part, false)?;
        Poll::Ready(Ok(sent))
    }

    /// Ends our direction.
    pub fn finish(&mut self) -> Result<(), StreamError> {
        Ok(self.send.send_data(Bytes::new(), true)?)
    }

    /// Cuts the stream: the peer sees RST_STREAM with `reason`.
    pub fn reset(&mut self, reason: Reason) {
        self.send.send_reset(reason);
    }

    /// Waits for the peer to reset the stream, or for the connection to break.
    pub fn poll_broken(&mut self, cx: &mut Context<'_>) -> Poll<StreamError> {
        self.send.poll_reset(cx).map(|outcome| match outcome {
            Ok(reason) => StreamError::Reset(reason),
            Err(error) => error.into(),
        })
    }

    fn why_closed(&mut self, cx: &mut Context<'_>) -> StreamError {
        match self.poll_broken(cx) {
            Poll::Ready(error) => error,
            // The sending side is closed without an error from the peer: it was reset from here.
            Poll::Pending => StreamError::Reset(Reason::CANCEL),
        }
    }
}
