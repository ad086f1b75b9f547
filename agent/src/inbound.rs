//! Connections that reach the pods from outside: accepted, authorized, delivered.

mod accept;
mod authorize;
mod deliver;
mod direct;
mod revoke;

pub(crate) use accept::facts;
pub use accept::{accept_hbone, accept_plain};
pub(crate) use authorize::authorize;
pub use direct::cut_refused;
pub use revoke::revoke;
