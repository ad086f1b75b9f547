//! The numbers of a tunnel.

use super::budget::Budget;
use std::time::Duration;

/// How tunnels behave; one value for both sides.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How many bytes a peer may send on one stream before it must wait for us.
    pub stream_window: u32,
    /// The same for all streams of a connection together: what applications that do not read can pin here. As large as
    /// the windows of all the streams that we put on a connection, so that none of them ever stalls the others. A
    /// connection begins with the window of one stream and grows to this with its streams, while the budget lasts.
    pub connection_window: u32,
    /// What the connection windows of all incoming tunnels are lent from.
    pub incoming_budget: Budget,
    /// The same for outgoing ones: what servers may pin here is none of the clients' loss.
    pub outgoing_budget: Budget,
    /// The largest frame that a peer may send us, in bytes.
    pub max_frame_size: u32,
    /// How many bytes of one stream may wait here to be sent.
    pub send_buffer: usize,
    /// The largest set of headers that a peer may send, in bytes.
    pub max_header_list: u32,
    /// How many streams a client may have open on one connection to us.
    pub max_incoming_streams: u32,
    /// How many streams we put on one connection before we make another; ztunnel allows 200.
    pub max_outgoing_streams: usize,
    /// The time for TCP, TLS and HTTP/2 to be ready.
    pub connect_timeout: Duration,
    /// The time for a peer to answer a CONNECT.
    pub answer_timeout: Duration,
    /// How often a connection is asked whether it lives.
    pub ping_interval: Duration,
    /// How long the answer may take before the connection counts as lost.
    pub ping_timeout: Duration,
    /// How long a connection without streams is kept.
    pub idle_timeout: Duration,
}

/// How much overhead of small frames may be buffered a connection, in bytes as h2 counts them: an application that writes
/// byte by byte to one that does not read must stall alone, not end the tunnel.
pub(super) const SMALL_FRAMES: usize = 64 << 20;
/// How many streams that we have reset are remembered for a second, so that what the peer had already sent for them is
/// passed over in silence. Applications reset connections in bursts.
pub(super) const REMEMBERED_RESETS: usize = 1000;
/// How many streams a client may reset before we have looked at them: the measure against rapid resets.
pub(super) const UNSEEN_RESETS: usize = 200;
/// How many streams of a client may be reset for its own faults while the connection lives.
pub(super) const FAULTY_STREAMS: usize = 1 << 16;

impl Default for Settings {
    fn default() -> Self {
        Self {
            stream_window: 2 << 20,
            connection_window: 200 << 20,
            incoming_budget: Budget::new(512 << 20),
            outgoing_budget: Budget::new(512 << 20),
            max_frame_size: 1 << 20,
            send_buffer: 512 << 10,
            max_header_list: 16 << 10,
            max_incoming_streams: 1000,
            max_outgoing_streams: 100,
            connect_timeout: Duration::from_secs(10),
            answer_timeout: Duration::from_secs(20),
            ping_interval: Duration::from_secs(10),
            ping_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(90),
        }
    }
}
