//! PING: notices a peer that is gone without a word.

use h2::{Ping, PingPong};
use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::{Instant, Sleep, sleep};

/// Asks the peer every so often whether it is there.
pub(super) struct Keepalive {
    ping: Option<PingPong>,
    sleep: Pin<Box<Sleep>>,
    waiting: bool,
    interval: Duration,
    timeout: Duration,
}

impl Keepalive {
    pub(super) fn new(ping: Option<PingPong>, interval: Duration, timeout: Duration) -> Self {
        Self { ping, sleep: Box::pin(sleep(interval)), waiting: false, interval, timeout }
    }

    /// Ready when the peer has not answered in time.
    pub(super) fn poll_lost(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(ping) = &mut self.ping else { return Poll::Pending };
        loop {
            if self.waiting && matches!(ping.poll_pong(cx), Poll::Ready(Ok(_))) {
                self.waiting = false;
                self.sleep.as_mut().reset(Instant::now() + self.interval);
            }
            ready!(self.sleep.as_mut().poll(cx));
            if self.waiting {
                return Poll::Ready(());
            }
            // An error means that the connection is ending, which its own future tells.
            self.waiting = ping.send_ping(Ping::opaque()).is_ok();
            let pause = if self.waiting { self.timeout } else { self.interval };
            self.sleep.as_mut().reset(Instant::now() + pause);
        }
    }
}
