//! `demo down`.

use super::RUN;
use anyhow::{Result, ensure};
use weft_tests::{run, sweep};

/// Removes what `demo --keep` left, and looks whether all of it is gone.
pub fn run() -> Result<()> {
    let name = format!("{}{RUN}", run::PREFIX);
    let before = sweep::remains(&name)?;
    if before.is_empty() {
        println!("there is no demo on this machine");
        return Ok(());
    }
    // Taking its name also finds out whether a demo is still being told.
    drop(weft_tests::Run::named(RUN)?);
    let left = sweep::remains(&name)?;
    ensure!(left.is_empty(), "still there: {}", left.join(", "));
    before.iter().for_each(|what| println!("removed {what}"));
    Ok(())
}
