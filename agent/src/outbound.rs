//! Connections that the pods' applications open: accepted, classified, connected.

mod accept;
mod classify;
mod connect;

pub use accept::{accept, carry};
pub use connect::connect_reason;
