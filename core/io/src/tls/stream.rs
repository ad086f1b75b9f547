//! The byte stream inside TLS.

use super::{
    ending::Ending,
    message::OUR_KEY_UPDATE,
    record::{self, BadRecord, HEADER, Kind, MAX_PLAIN, OVERHEAD},
    session::Session,
};
use crate::{
    buffer::{self, Buffer},
    socket,
};
use std::{
    fmt,
    io::{self, IoSlice},
    ops::Range,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// How many records without data may follow one another.
const MOST_EMPTY: u32 = 32;
/// The alert that ends a session in peace, as it is sent.
const CLOSE_NOTIFY: [u8; 2] = [1, 0];

/// The byte stream inside TLS, over TCP.
///
/// Reads and writes go through large buffers that belong to the thread, so that a connection at rest holds none. Its
/// shutdown ends both directions: what the peer says after that is thrown away (see `ending.rs`).
pub struct TlsIo {
    tcp: TcpStream,
    session: Session,
    incoming: Incoming,
    outgoing: Option<Buffer>,
    /// The sealed bytes of `outgoing` that are still to be sent.
    unsent: Range<usize>,
    peer_has_closed: bool,
    ending: Ending,
}

/// What came from the socket: plaintext that is still to be taken, then records that are still to be opened.
#[derive(Default)]
struct Incoming {
    buffer: Option<Buffer>,
    plain: Range<usize>,
    sealed: Range<usize>,
    without_data: u32,
}

impl fmt::Debug for TlsIo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsIo").field("tcp", &self.tcp).finish_non_exhaustive()
    }
}

fn bad(error: BadRecord) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

impl TlsIo {
    /// The stream of `session` over `tcp`, where the handshake left off: `plain` was read and opened already, `sealed`
    /// was read and not opened.
    pub(super) fn new(
        tcp: TcpStream,
        session: Session,
        plain: &[u8],
        sealed: &[u8],
    ) -> Result<Self, BadRecord> {
        let mut incoming = Incoming::default();
        let both = plain.len() + sealed.len();
        if both > 0 {
            let mut buffer = Buffer::take();
            // A record must always fit behind what is there.
            let (front, rest) = buffer.split_at_mut_checked(both).ok_or(BadRecord::Flood)?;
            if rest.len() < HEADER + MAX_PLAIN {
                return Err(BadRecord::Flood);
            }
            front[..plain.len()].copy_from_slice(plain);
            front[plain.len()..].copy_from_slice(sealed);
            incoming.plain = 0..plain.len();
            incoming.sealed = plain.len()..both;
            incoming.buffer = Some(buffer);
        }
        Ok(Self {
            tcp,
            session,
            incoming,
            outgoing: None,
            unsent: 0..0,
            peer_has_closed: false,
            ending: Ending::None,
        })
    }

    /// The length of the next record, where it is there whole.
    fn next_record(&self) -> Result<Option<usize>, BadRecord> {
        let Some(buffer) = &self.incoming.buffer else { return Ok(None) };
        let sealed = &buffer[self.incoming.sealed.clone()];
        Ok(record::length(sealed)?.filter(|length| *length <= sealed.len()))
    }

    /// Opens the next record, which is there whole and `length` bytes long: straight into `out` where that has room for
    /// it, else where it lies.
    fn open_next(&mut self, length: usize, out: &mut ReadBuf<'_>) -> Result<(), BadRecord> {
        let incoming = &mut self.incoming;
        let Some(buffer) = &mut incoming.buffer else { return Ok(()) };
        let start = incoming.sealed.start;
        incoming.sealed.start += length;
        let record = &mut buffer[start..start + length];
        let room = record::room(length);
        let is_straight = room <= out.remaining();
        let (kind, content) = if is_straight {
            let into = out.initialize_unfilled_to(room);
            let opened = self.session.opener.open_into(record, into)?;
            (opened.kind, &into[..opened.plain])
        } else {
            let opened = self.session.opener.open(record)?;
            (opened.kind, &record[HEADER..HEADER + opened.plain])
        };
        if kind == Kind::Data && !content.is_empty() {
            if self.session.is_mid_message() {
                return Err(BadRecord::Message);
            }
            incoming.without_data = 0;
            let plain = content.len();
            if is_straight {
                out.advance(plain);
            } else {
                incoming.plain = start + HEADER..start + HEADER + plain;
            }
            return Ok(());
        }
        incoming.without_data += 1;
        if incoming.without_data > MOST_EMPTY {
            return Err(BadRecord::Flood);
        }
        match kind {
            Kind::Data => {}
            Kind::Handshake => self.session.handle(content)?,
            // Whatever the alert says, nothing follows it; only a close without errors is a peaceful end.
            Kind::Alert => match *content {
                [_, 0] => self.peer_has_closed = true,
                [_, why] => return Err(BadRecord::Alert(why)),
                _ => return Err(BadRecord::Content),
            },
        }
        Ok(())
    }

    /// Reads from the socket behind what is there; 0 at its end.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.incoming.sealed.is_empty() {
            // Nothing is waiting: the buffer can serve others until bytes come.
            self.incoming.buffer = None;
            self.incoming.sealed = 0..0;
        }
        ready!(self.tcp.poll_read_ready(cx))?;
        let incoming = &mut self.incoming;
        let buffer = incoming.buffer.get_or_insert_with(Buffer::take);
        let waiting = incoming.sealed.clone();
        if waiting.start > 0 {
            buffer.copy_within(waiting.clone(), 0);
            incoming.sealed = 0..waiting.len();
        }
        let read = ready!(socket::poll_read(&self.tcp, cx, &mut buffer[incoming.sealed.end..]))?;
        incoming.sealed.end += read;
        Poll::Ready(Ok(read))
    }

    /// Sends what is sealed; ready when nothing is left.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(buffer) = self.outgoing.as_ref().filter(|_| !self.unsent.is_empty()) {
            match ready!(socket::poll_write(&self.tcp, cx, &buffer[self.unsent.clone()]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                sent => self.unsent.start += sent,
            }
        }
        self.outgoing = None;
        self.unsent = 0..0;
        Poll::Ready(Ok(()))
    }

    /// Seals one record behind what is still to be sent.
    fn seal(&mut self, kind: Kind, plain: &[u8]) -> Result<(), BadRecord> {
        let buffer = self.outgoing.get_or_insert_with(Buffer::take);
        let length = self.session.sealer.seal(kind, plain, &mut buffer[self.unsent.end..])?;
        self.unsent.end += length;
        Ok(())
    }

    /// Seals as much of `bufs` as the buffer takes, which must be empty before.
    fn seal_data(&mut self, bufs: &[IoSlice<'_>]) -> Result<usize, BadRecord> {
        if self.session.owes_key_update || self.session.sealer.is_worn() {
            self.seal(Kind::Handshake, &OUR_KEY_UPDATE)?;
            self.session.next_sealer()?;
        }
        let mut taken = 0;
        for plain in bufs.iter().flat_map(|buf| buf.chunks(MAX_PLAIN)) {
            let room = buffer::SIZE - self.unsent.end;
            let part = plain.len().min(room.saturating_sub(HEADER + OVERHEAD));
            if part == 0 {
                break;
            }
            self.seal(Kind::Data, &plain[..part])?;
            taken += part;
            if part < plain.len() {
                break;
            }
        }
        Ok(taken)
    }
}

impl AsyncRead for TlsIo {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        while buf.remaining() > 0 {
            if let Some(buffer) = this.incoming.buffer.as_ref().filter(|_| !this.incoming.plain.is_empty()) {
                let plain = &buffer[this.incoming.plain.clone()];
                let part = plain.len().min(buf.remaining());
                buf.put_slice(&plain[..part]);
                this.incoming.plain.start += part;
                continue;
            }
            if this.peer_has_closed {
                break;
            }
            let is_first = buf.filled().len() == before;
            match this.next_record().map_err(bad)? {
                // The reader may make more room once it has seen what there is, and the record is spared a copy.
                Some(length) if !is_first && record::room(length) > buf.remaining() => break,
                Some(length) => {
                    this.open_next(length, buf).map_err(bad)?;
                    continue;
                }
                None if !is_first => break,
                None => {}
            }
            if ready!(this.poll_fill(cx))? == 0 {
                // Without a close the end may be an attacker's (RFC 8446, section 6.1).
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for TlsIo {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_send(cx))?;
        let taken = this.seal_data(bufs).map_err(bad)?;
        // What does not go out now goes with the next write or flush.
        if let Poll::Ready(Err(error)) = this.poll_send(cx) {
            return Poll::Ready(Err(error));
        }
        Poll::Ready(Ok(taken))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_send(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_send(cx))?;
        if let Ending::None = this.ending {
            this.seal(Kind::Alert, &CLOSE_NOTIFY).map_err(bad)?;
            this.ending = Ending::Said;
            ready!(this.poll_send(cx))?;
        }
        this.incoming = Incoming::default();
        this.ending.poll(&mut this.tcp, cx)
    }
}

#[cfg(test)]
mod tests;
