//! Connections that the pods' applications open: accepted, classified, connected.

mod accept;
mod classify;
mod connect;
mod door;

pub use accept::{accept, accept_asked};
pub use connect::connect_reason;
pub use door::Door;
