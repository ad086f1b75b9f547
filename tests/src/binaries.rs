//! Where the built binaries stand.

use anyhow::{Context, Result, ensure};
use std::{env, path::PathBuf, sync::OnceLock};

/// The folder that [`choose`] named.
static CHOSEN: OnceLock<PathBuf> = OnceLock::new();

/// From now on, binaries are looked for in this folder (unless `WEFT_BIN_DIR` is set): the release build's, when a
/// debug build runs the demo. The first choice holds.
pub fn choose(directory: PathBuf) {
    CHOSEN.get_or_init(|| directory);
}

/// The binary called `name`: in `WEFT_BIN_DIR` where that is set, else in the target folder that the running program
/// was built into.
///
/// # Errors
/// When it is not there, with the command that builds it.
pub fn find(name: &str) -> Result<PathBuf> {
    let directory = match env::var_os("WEFT_BIN_DIR") {
        Some(directory) => directory.into(),
        None => match CHOSEN.get() {
            Some(directory) => directory.clone(),
            None => own_directory()?,
        },
    };
    let path = directory.join(name);
    ensure!(
        path.exists(),
        "{} is not built: cargo build --workspace --bins (or set WEFT_BIN_DIR)",
        path.display()
    );
    Ok(path)
}

/// The folder of this program, past the `deps` that tests are put into.
fn own_directory() -> Result<PathBuf> {
    let program = env::current_exe()?;
    let directory = program.parent().context("this program has no folder")?;
    let deps = directory.file_name().is_some_and(|name| name == "deps");
    Ok(if deps { directory.parent().context("deps has no parent")? } else { directory }.to_owned())
}
