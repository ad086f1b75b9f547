//! Connections that reach the pods from outside: accepted, authorized, delivered.

mod accept;
mod authorize;
mod deliver;
mod direct;
mod revoke;

pub use accept::{accept_hbone, accept_plain};
pub use direct::cut_refused;
pub use revoke::revoke;
