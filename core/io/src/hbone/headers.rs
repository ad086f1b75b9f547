//! The header values of a tunnel's CONNECT: pure parsers and builders, bounded and total.

mod authority;
mod baggage;
mod forwarded;
mod traceparent;

pub use authority::{Authority, BadAuthority};
pub use baggage::{BadBaggage, Baggage};
pub use forwarded::{BadForwarded, Forwarded};
pub use traceparent::{BadTraceparent, Traceparent};
