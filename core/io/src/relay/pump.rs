//! The relay itself: two pumps, one a direction, polled as one future.

use super::endpoint::{Broken, Cut, Endpoint};
use bytes::Bytes;
use pin_project_lite::pin_project;
use std::{
    future::Future,
    pin::Pin,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    task::{Context, Poll, ready},
};

/// How many chunks one direction moves before others on the thread get their turn.
const CHUNKS_A_TURN: usize = 16;

/// The two sides of a relay, named by the order of its arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The first one.
    Left,
    /// The second one.
    Right,
}

/// The two directions of a relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the left side to the right one.
    Rightward,
    /// From the right side to the left one.
    Leftward,
}

/// Where a relay says how much it has moved.
pub trait Meter {
    /// `bytes` more have moved in `direction`.
    fn moved(&self, direction: Direction, bytes: u64);
}

/// Bytes that a relay has moved; written by it alone, read by anyone while it runs.
#[derive(Debug, Default)]
pub struct Counters {
    rightward: AtomicU64,
    leftward: AtomicU64,
}

impl Counters {
    /// Bytes that have moved in `direction`.
    pub fn bytes(&self, direction: Direction) -> u64 {
        match direction {
            Direction::Rightward => self.rightward.load(Relaxed),
            Direction::Leftward => self.leftward.load(Relaxed),
        }
    }
}

impl Meter for Counters {
    fn moved(&self, direction: Direction, bytes: u64) {
        let counter = match direction {
            Direction::Rightward => &self.rightward,
            Direction::Leftward => &self.leftward,
        };
        // One writer: no read-modify-write is needed.
        counter.store(counter.load(Relaxed) + bytes, Relaxed);
    }
}

/// How a relay ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelayEnd {
    /// Both directions ended in peace.
    Finished,
    /// A side broke, and the other was cut for it.
    Broken(Side, Broken),
    /// It was told to close, and both sides were cut.
    Closed,
}

pin_project! {
    /// A relay under way. There are as many of these as connections, for as long as those live: each part is in it once,
    /// where an async function would keep its arguments beside what it makes of them.
    pub(super) struct Relay<'a, L, R, M, C> {
        left: L,
        right: R,
        rightward: Pump<'a, M>,
        leftward: Pump<'a, M>,
        #[pin]
        close: C,
    }
}

impl<'a, L, R, M: Meter, C> Relay<'a, L, R, M, C> {
    /// Between `left` and `right`, until `close` resolves or one of them has enough.
    pub(super) fn new(left: L, right: R, meter: &'a M, close: C) -> Self {
        let rightward = Pump::new(meter, Direction::Rightward);
        let leftward = Pump::new(meter, Direction::Leftward);
        Self { left, right, rightward, leftward, close }
    }
}

impl<L: Endpoint, R: Endpoint, M: Meter, C: Future<Output = ()>> Relay<'_, L, R, M, C> {
    fn poll_end(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<RelayEnd> {
        let this = self.project();
        let (left, right) = (this.left, this.right);
        if this.close.poll(cx).is_ready() {
            return Poll::Ready(RelayEnd::Closed);
        }
        let right_step = this.rightward.poll(cx, left, right);
        if let Poll::Ready(Err((end, how))) = right_step {
            return Poll::Ready(RelayEnd::Broken(end.side(Side::Left, Side::Right), how));
        }
        let left_step = this.leftward.poll(cx, right, left);
        if let Poll::Ready(Err((end, how))) = left_step {
            return Poll::Ready(RelayEnd::Broken(end.side(Side::Right, Side::Left), how));
        }
        // A side that has ended its direction is no longer read, so its reset must be looked for.
        match (right_step.is_ready(), left_step.is_ready()) {
            (true, true) => Poll::Ready(RelayEnd::Finished),
            (true, false) => left.poll_broken(cx).map(|how| RelayEnd::Broken(Side::Left, how)),
            (false, true) => right.poll_broken(cx).map(|how| RelayEnd::Broken(Side::Right, how)),
            (false, false) => Poll::Pending,
        }
    }
}

impl<L: Endpoint, R: Endpoint, M: Meter, C: Future<Output = ()>> Future for Relay<'_, L, R, M, C> {
    type Output = RelayEnd;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<RelayEnd> {
        let end = ready!(self.as_mut().poll_end(cx));
        let this = self.project();
        let why = match end {
            RelayEnd::Finished => {
                this.left.settle();
                this.right.settle();
                return Poll::Ready(end);
            }
            RelayEnd::Broken(..) => Cut::OtherSideBroke,
            RelayEnd::Closed => Cut::Closed,
        };
        this.left.cut(why);
        this.right.cut(why);
        Poll::Ready(end)
    }
}

/// Which end of a pump failed.
#[derive(Clone, Copy)]
enum PumpEnd {
    From,
    To,
}

impl PumpEnd {
    fn side(self, from: Side, to: Side) -> Side {
        match self {
            PumpEnd::From => from,
            PumpEnd::To => to,
        }
    }
}

/// One direction.
struct Pump<'a, M> {
    pending: Bytes,
    ended: bool,
    meter: &'a M,
    direction: Direction,
}

impl<'a, M: Meter> Pump<'a, M> {
    fn new(meter: &'a M, direction: Direction) -> Self {
        Self { pending: Bytes::new(), ended: false, meter, direction }
    }

    /// Moves what can be moved; ready when the direction has ended.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut impl Endpoint,
        to: &mut impl Endpoint,
    ) -> Poll<Result<(), (PumpEnd, Broken)>> {
        for _ in 0..CHUNKS_A_TURN {
            if !self.ended && self.pending.is_empty() {
                match from.poll_read(cx).map_err(|how| (PumpEnd::From, how))? {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Some(data)) => self.pending = data,
                    Poll::Ready(None) => {
                        to.finish().map_err(|how| (PumpEnd::To, how))?;
                        self.ended = true;
                    }
                }
            }
            if self.ended {
                return Poll::Ready(Ok(()));
            }
            while !self.pending.is_empty() {
                match to.poll_write(cx, &mut self.pending).map_err(|how| (PumpEnd::To, how))? {
                    Poll::Ready(moved) => self.count(from, moved),
                    // Nothing is read meanwhile, so a reset must be looked for.
                    Poll::Pending => match from.poll_broken(cx) {
                        Poll::Ready(how) => return Poll::Ready(Err((PumpEnd::From, how))),
                        Poll::Pending => return Poll::Pending,
                    },
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn count(&mut self, from: &mut impl Endpoint, moved: usize) {
        from.release(moved);
        self.meter.moved(self.direction, moved as u64);
    }
}
