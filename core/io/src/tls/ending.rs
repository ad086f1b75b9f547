//! The end of a TLS stream, such that nothing that was said before it is lost.

use crate::{buffer::Buffer, socket};
use std::{
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::AsyncWrite,
    net::TcpStream,
    time::{Sleep, sleep},
};

/// How long the peer may take to end its direction too.
const PATIENCE: Duration = Duration::from_secs(5);

/// How far our end of a stream has come.
#[derive(Default)]
pub(super) enum Ending {
    /// It has not begun.
    #[default]
    None,
    /// The alert that says it is among the bytes to be sent.
    Said,
    /// TCP has ended too, and the peer's end is waited for until the time is over.
    Sent(Pin<Box<Sleep>>),
}

impl Ending {
    /// Ends TCP's sending side, then reads and forgets what the peer still says until it ends too, or breaks, or takes
    /// too long.
    ///
    /// A socket that is closed over unread bytes, or that hears more after it is closed, answers with a reset, and the
    /// kernel then forgets what it has not sent yet. Tunnels often end like this: a window update meets the last bytes.
    pub(super) fn poll(&mut self, tcp: &mut TcpStream, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let patience = match self {
            Self::Sent(patience) => patience,
            Self::None | Self::Said => {
                ready!(Pin::new(&mut *tcp).poll_shutdown(cx))?;
                *self = Self::Sent(Box::pin(sleep(PATIENCE)));
                return self.poll(tcp, cx);
            }
        };
        if patience.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        // A failure is the end as well: all that we had to say is with the kernel.
        while let Ok(()) = ready!(tcp.poll_read_ready(cx)) {
            match ready!(socket::poll_read(tcp, cx, &mut Buffer::take())) {
                Ok(1..) => {}
                Ok(0) | Err(_) => break,
            }
        }
        Poll::Ready(Ok(()))
    }
}
