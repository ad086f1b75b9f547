//! Files, with the path in every error.

use anyhow::{Context, Result};
use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

/// Makes a directory, and those above it.
pub(crate) fn directory(path: &Path) -> Result<()> {
    fs::create_dir_all(path).with_context(|| format!("cannot make {}", path.display()))
}

/// Writes a file that anybody may read.
pub(crate) fn write(path: &Path, content: impl AsRef<[u8]>) -> Result<()> {
    write_as(path, content.as_ref(), 0o644)
}

/// Writes a file that only its owner may read.
pub(crate) fn write_secret(path: &Path, content: impl AsRef<[u8]>) -> Result<()> {
    write_as(path, content.as_ref(), 0o600)
}

fn write_as(path: &Path, content: &[u8], mode: u32) -> Result<()> {
    if let Some(parent) = path.parent() {
        directory(parent)?;
    }
    // Anew, so that the mode holds also where there was a file.
    remove(path)?;
    let open = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    open.and_then(|mut file| file.write_all(content))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// Removes a file that may not be there.
pub(crate) fn remove(path: &Path) -> Result<()> {
    ignore_missing(fs::remove_file(path)).with_context(|| format!("cannot remove {}", path.display()))
}

/// Removes a directory with all in it; it may not be there.
pub(crate) fn remove_directory(path: &Path) -> Result<()> {
    ignore_missing(fs::remove_dir_all(path)).with_context(|| format!("cannot remove {}", path.display()))
}

/// What a file says.
pub(crate) fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// The names in a directory; none where there is no such directory.
pub(crate) fn list(path: &Path) -> Result<Vec<String>> {
    match fs::read_dir(path) {
        Ok(entries) => {
            Ok(entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error).with_context(|| format!("cannot list {}", path.display())),
    }
}

/// The end of a log, for an error about the program that wrote it.
pub(crate) fn tail(path: &Path) -> String {
    const LINES: usize = 15;
    let Ok(bytes) = fs::read(path) else { return String::new() };
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

fn ignore_missing(result: io::Result<()>) -> io::Result<()> {
    result.or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
}
