//! What the kernel programs decide, apart from how they come to know it: pure functions, tested on the host.
#![no_std]
#![forbid(unsafe_code)]

mod admit;
mod capture;
mod ending;
mod excess;
mod guard;
mod route;
mod tcp;
mod turn;

pub use admit::{Admission, admit, is_open, recorded};
pub use capture::capture_port;
pub use ending::{Reset, reset};
pub use excess::{established, moved};
pub use guard::{asks_for_connection, must_wait};
pub use route::{Route, Source, World, route};
pub use turn::slot;
