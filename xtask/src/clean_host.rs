//! Removal of what crashed runs left on this machine.

use anyhow::Result;
use clap::Args;
use weft_tests::sweep;

#[derive(Args)]
pub struct Options {
    /// Also remove what was asked to stay (`cargo xtask demo --keep`)
    #[arg(long)]
    kept: bool,
}

pub fn run(options: &Options) -> Result<()> {
    let mut gone = sweep::remove_stale()?;
    if options.kept {
        gone.extend(sweep::remove_kept()?);
    }
    for name in &gone {
        println!("removed {name}");
    }
    for name in sweep::names()? {
        println!("left {name}, which is in use or was asked to stay");
    }
    if gone.is_empty() {
        println!("nothing was left behind");
    }
    Ok(())
}
