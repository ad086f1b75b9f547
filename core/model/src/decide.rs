//! Decisions: what happens to a connection, as pure functions of a snapshot.

mod explain;
mod inbound;
mod outbound;

pub use explain::{Explanation, Held, Way, explain};
pub use inbound::{Verdict, inbound};
pub use outbound::{Drawn, Outbound, Tunnelled, outbound, outbound_drawn};
