//! HBONE: TCP connections as HTTP/2 CONNECT streams inside mutual TLS.

pub mod budget;
pub mod client;
pub mod error;
pub mod headers;
pub mod pool;
pub mod server;
pub mod settings;
pub mod stream;
pub mod usage;

mod keepalive;
mod window;

pub use budget::Budget;
pub use error::HboneError;
pub use headers::{Authority, Baggage, Forwarded, Traceparent};
pub use pool::{Pool, PoolKey};
pub use server::{Incoming, ServeError, serve};
pub use settings::Settings;
pub use stream::Stream;
pub use usage::{HeldTunnel, Usage};

#[cfg(test)]
mod tests;
