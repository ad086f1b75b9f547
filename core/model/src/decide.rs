//! Decisions: what happens to a connection, as pure functions of a snapshot.

mod inbound;
mod outbound;

pub use inbound::{Verdict, inbound};
pub use outbound::{Outbound, Tunnelled, outbound};
