//! Reading and writing a TCP socket with one system call where one is enough.

use socket2::SockRef;
use std::{
    cell::Cell,
    io::{self, ErrorKind::WouldBlock, Read},
    task::{Context, Poll, ready},
};
use tokio::{io::Interest, net::TcpStream};

/// From how many bytes on a move counts as bulk.
const BULK: usize = 32 << 10;

thread_local! {
    static MOVES: Cell<Moves> = const { Cell::new(Moves { all: 0, bulk: 0 }) };
}

/// How often sockets of a thread have moved bytes so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moves {
    /// In all.
    pub all: u64,
    /// Those among them that moved much at once.
    pub bulk: u64,
}

/// How often sockets have moved bytes on this thread: whether there was work since one looked last, and of which kind.
pub fn moves() -> Moves {
    MOVES.get()
}

/// Waits until there is something to read, and reads it.
///
/// A short read empties the socket's queue, so that it counts as not ready from then on without a second call that only
/// says so.
pub(crate) fn poll_read(tcp: &TcpStream, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
    loop {
        ready!(tcp.poll_read_ready(cx))?;
        let read = once(tcp, Interest::READABLE, buffer.len(), || (&*SockRef::from(tcp)).read(buffer));
        match read {
            Err(error) if error.kind() == WouldBlock => {}
            read => return Poll::Ready(read),
        }
    }
}

/// Waits until there is room, and writes as much of `data` as it takes; a short write counts as [`poll_read`]'s short read.
pub(crate) fn poll_write(tcp: &TcpStream, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
    loop {
        ready!(tcp.poll_write_ready(cx))?;
        let written = once(tcp, Interest::WRITABLE, data.len(), || {
            SockRef::from(tcp).send_with_flags(data, libc::MSG_NOSIGNAL)
        });
        match written {
            Err(error) if error.kind() == WouldBlock => {}
            written => return Poll::Ready(written),
        }
    }
}

/// Does `call`, which moves up to `most` bytes, and marks the socket as not ready where it moves fewer.
fn once(
    tcp: &TcpStream,
    interest: Interest,
    most: usize,
    call: impl FnOnce() -> io::Result<usize>,
) -> io::Result<usize> {
    let mut moved = None;
    let outcome = tcp.try_io(interest, || {
        let bytes = call()?;
        let Moves { all, bulk } = MOVES.get();
        MOVES.set(Moves { all: all + 1, bulk: bulk + u64::from(bytes >= BULK) });
        if 0 < bytes && bytes < most {
            moved = Some(bytes);
            return Err(WouldBlock.into());
        }
        Ok(bytes)
    });
    moved.map_or(outcome, Ok)
}
