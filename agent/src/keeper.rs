//! The keeper: the small process above the worker that holds every listening socket of the pods.
//!
//! It has one thread, nothing to configure, and holds no key.
//! When its worker dies, connections wait in the backlogs of the sockets it holds, and the next worker, started at once,
//! gets them back by name. A second agent that starts for the same state directory takes the listeners over through the
//! keeper's Unix socket.

pub mod client;
mod door;
mod process;
pub mod wire;

pub use client::KeeperClient;
pub use process::{Start, run};

/// Tells the agent whose keeper is behind `door` to drain and end, as a successor would; whether there is one.
pub fn relieve(door: &std::path::Path) -> std::io::Result<bool> {
    match door::Predecessor::find(door)? {
        Some(agent) => agent.retire().map(|()| true),
        None => Ok(false),
    }
}

/// The exit code of a worker (and so of the keeper) that cannot start with the configuration it was given: sysexits'
/// `EX_CONFIG`. Starting it again would change nothing.
pub const EXIT_CONFIG: u8 = 78;
/// The exit code of a worker (and so of the keeper) that says of itself that it cannot go on, for any other cause.
pub const EXIT_FAILED: u8 = 1;
