//! The benchmarks behind `cargo xtask bench`: the mesh against the same work without one, run after run in turn.
//!
//! Each module makes the figures of one kind and says which ones in its `NAMES`; [`catalogue`] holds all names and aims.

pub mod catalogue;
mod cpu;
mod crowd;
mod decide;
mod endurance;
mod experiments;
mod guard;
mod lab;
mod memory;
pub mod probe;
mod propagation;
mod quiet;
pub mod relay;
pub mod session;
mod traffic;

use anyhow::Result;
use session::Session;

/// The share of the machine that may be busy before figures are told with a warning.
const QUIET: f64 = 0.05;

/// Measures what the session asks for, telling progress and rows as it goes.
///
/// # Errors
/// When figures could not be measured, after all others were; when somebody has told us to stop, at once.
pub fn run(session: &mut Session) -> Result<()> {
    let busy = quiet::busy_share()?;
    if busy > QUIET {
        session.warn(format!("{:.0} % of the machine was busy with other work", busy * 100.0));
    }
    traffic::run(session)?;
    guard::run(session)?;
    memory::run(session)?;
    decide::run(session)?;
    propagation::run(session)?;
    session.conclude()
}
