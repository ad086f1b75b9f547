//! Reading and writing a TCP socket with one system call where one is enough.

use socket2::SockRef;
use std::{
    io::{self, ErrorKind::WouldBlock, Read},
    task::{Context, Poll, ready},
};
use tokio::{io::Interest, net::TcpStream};

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
    let outcome = tcp.try_io(interest, || match call()? {
        short if 0 < short && short < most => {
            moved = Some(short);
            Err(WouldBlock.into())
        }
        full => Ok(full),
    });
    moved.map_or(outcome, Ok)
}
