//! Moving bytes between two ends of a connection, and its ends with them.
//!
//! A half-close stays one, a reset arrives as a reset, and nothing is buffered beyond one chunk a direction.

mod endpoint;
mod pump;
mod stream;
mod tcp;

pub use endpoint::Broken;
pub use pump::{Counters, Direction, Meter, RelayEnd, Side};

use crate::hbone::Stream;
use std::future::Future;
use tokio::net::TcpStream;

/// Relays between a TCP connection (the left side) and a tunnel stream (the right one) until both directions have ended,
/// one side breaks, or `close` resolves.
///
/// However it ends, each side learns it in its own words: a TCP reset becomes RST_STREAM, and a reset or lost stream
/// becomes a TCP reset.
pub fn tunnel(
    tcp: TcpStream,
    stream: Stream,
    meter: &impl Meter,
    close: impl Future<Output = ()>,
) -> impl Future<Output = RelayEnd> {
    pump::Relay::new(tcp::Tcp::new(tcp), stream, meter, close)
}

/// Relays between two TCP connections, for traffic that needs no tunnel; ends as [`tunnel`] does.
pub fn plain(
    left: TcpStream,
    right: TcpStream,
    meter: &impl Meter,
    close: impl Future<Output = ()>,
) -> impl Future<Output = RelayEnd> {
    pump::Relay::new(tcp::Tcp::new(left), tcp::Tcp::new(right), meter, close)
}

#[cfg(test)]
mod tests;
