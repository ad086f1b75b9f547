//! A TCP connection as a side of a relay.

use super::endpoint::{Broken, Cut, Endpoint};
use crate::{buffer, socket};
use bytes::{Buf, Bytes};
use socket2::SockRef;
use std::{
    future::Future,
    io,
    net::Shutdown,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};
use tokio::{io::Interest, net::TcpStream};

pub(super) struct Tcp {
    // Shared with the future that waits for an error, which is made only where nothing is read.
    socket: Rc<TcpStream>,
    error: Option<Pin<Box<dyn Future<Output = ()>>>>,
}

impl Tcp {
    /// From here on the socket ends in a reset, also when this process is killed, unless both directions end in peace.
    pub(super) fn new(socket: TcpStream) -> Self {
        // Where it fails the socket is already gone.
        let _ = socket.set_zero_linger();
        // Bytes go on as they come; a socket that cannot be told so will fail at its first use anyway.
        let _ = socket.set_nodelay(true);
        Self { socket: Rc::new(socket), error: None }
    }
}

fn broken(error: &io::Error) -> Broken {
    match error.kind() {
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::NotConnected => Broken::Reset,
        _ => Broken::Lost,
    }
}

impl Endpoint for Tcp {
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Broken>> {
        ready!(self.socket.poll_read_ready(cx)).map_err(|e| broken(&e))?;
        let read = buffer::read_with(|buffer| match socket::poll_read(&self.socket, cx, buffer) {
            Poll::Ready(read) => read.map(Some),
            Poll::Pending => Ok(None),
        });
        match read {
            Ok(None) => Poll::Pending,
            Ok(Some(data)) => Poll::Ready(Ok(data)),
            Err(error) => Poll::Ready(Err(broken(&error))),
        }
    }

    fn release(&mut self, _bytes: usize) {}

    fn poll_write(&mut self, cx: &mut Context<'_>, data: &mut Bytes) -> Poll<Result<usize, Broken>> {
        let written = ready!(socket::poll_write(&self.socket, cx, data)).map_err(|e| broken(&e))?;
        data.advance(written);
        Poll::Ready(Ok(written))
    }

    fn finish(&mut self) -> Result<(), Broken> {
        SockRef::from(&*self.socket).shutdown(Shutdown::Write).map_err(|e| broken(&e))
    }

    fn poll_broken(&mut self, cx: &mut Context<'_>) -> Poll<Broken> {
        let error = self.error.get_or_insert_with(|| {
            let socket = self.socket.clone();
            Box::pin(async move {
                // An error of the driver itself says that the socket can no longer be watched.
                let _ = socket.ready(Interest::ERROR).await;
            })
        });
        error.as_mut().poll(cx).map(|()| match self.socket.take_error() {
            Ok(Some(error)) => broken(&error),
            _ => Broken::Reset,
        })
    }

    fn cut(&mut self, _why: Cut) {}

    fn settle(&mut self) {
        // What was written last may still be on its way, and must not be taken back.
        let _ = SockRef::from(&*self.socket).set_linger(None);
    }
}
