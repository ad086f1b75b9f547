//! What the relay needs of either of its sides.

use bytes::Bytes;
use std::task::{Context, Poll};

/// How a side failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// It was reset by its peer.
    Reset,
    /// It is lost: the tunnel broke, or the network did.
    Lost,
}

/// Why a side is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// The other side broke.
    OtherSideBroke,
    /// The relay was told to close.
    Closed,
}

/// One side of a relay.
pub(super) trait Endpoint {
    /// The next bytes; `None` when the peer has ended its direction.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Broken>>;

    /// Says that `bytes` of what was read have moved on.
    fn release(&mut self, bytes: usize);

    /// Takes as much of `data` as there is room for, at least one byte.
    fn poll_write(&mut self, cx: &mut Context<'_>, data: &mut Bytes) -> Poll<Result<usize, Broken>>;

    /// Ends the direction towards this side.
    fn finish(&mut self) -> Result<(), Broken>;

    /// Waits for this side to break while nothing is read from it.
    fn poll_broken(&mut self, cx: &mut Context<'_>) -> Poll<Broken>;

    /// Makes the peer see a reset.
    fn cut(&mut self, why: Cut);

    /// Both directions have ended in peace: nothing is cut any more.
    fn settle(&mut self);
}
