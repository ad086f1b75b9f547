//! The targets' build: Weft's crates with coverage counters, all others as the tests have them.

use super::{PREFIX, home};
use crate::shell;
use anyhow::{Context, Result};
use std::{
    env, fs,
    path::{Path, PathBuf},
};

/// The target directory of the main workspace; the targets share it, and with it what they depend on.
pub fn target_directory() -> PathBuf {
    let given = env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    shell::workspace().join(given.unwrap_or_else(|| "target".into()))
}

/// The program of a target.
pub fn program(target: &str) -> PathBuf {
    target_directory().join("debug").join(format!("{PREFIX}{target}"))
}

/// Builds the targets' programs.
pub fn targets(names: &[String]) -> Result<()> {
    lock()?;
    let programs = names.iter().flat_map(|name| ["--bin".to_owned(), format!("{PREFIX}{name}")]);
    let mut cargo = shell::cargo(&["build"]);
    cargo.args(programs).current_dir(home());
    cargo.env("CARGO_TARGET_DIR", target_directory()).env("RUSTC_WRAPPER", home().join("instrument"));
    shell::run(&mut cargo)
}

/// Makes the targets' lock file from the main one, whenever that has changed: both workspaces then use, and share, the
/// same versions. Cargo adds the two packages that only the targets have, and the manifest pins those.
fn lock() -> Result<()> {
    let main = fs::read(shell::workspace().join("Cargo.lock")).context("no Cargo.lock")?;
    let (ours, made_from) = (home().join("Cargo.lock"), target_directory().join("fuzz/made-from.lock"));
    let is_current = ours.exists() && fs::read(&made_from).is_ok_and(|bytes| bytes == main);
    if !is_current {
        fs::create_dir_all(made_from.parent().unwrap_or(Path::new(".")))?;
        fs::write(&ours, &main)?;
        fs::write(&made_from, &main)?;
    }
    Ok(())
}
