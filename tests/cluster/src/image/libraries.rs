//! The shared libraries of a program.

use anyhow::{Context, Result, bail};
use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// The libraries that the program loads and the loader itself, where it looks for them.
pub(super) fn of(program: &Path) -> Result<Vec<PathBuf>> {
    let output =
        Command::new("ldd").arg(program).output().context("cannot run ldd (Debian package libc-bin)")?;
    let said = [&output.stdout[..], &output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    if said.contains("not a dynamic executable") || said.contains("statically linked") {
        return Ok(Vec::new());
    }
    if !output.status.success() {
        bail!("ldd {}: {}", program.display(), said.trim());
    }
    paths(&said).with_context(|| program.display().to_string())
}

/// Lines are `name => path (address)`, `path (address)` for the loader, and `name (address)` for what the kernel gives.
fn paths(said: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for line in said.lines().map(str::trim) {
        let path = line.split_once("=> ").map_or(line, |(_, path)| path);
        if path.starts_with("not found") {
            bail!("a library is missing on this machine: {line}");
        }
        let path = path.split_once(" (").map_or(path, |(path, _)| path);
        if path.starts_with('/') {
            found.push(path.into());
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::paths;

    #[test]
    fn what_ldd_prints_is_understood() {
        let said = "\tlinux-vdso.so.1 (0x00007fff)\n\
                    \tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f00)\n\
                    \t/lib64/ld-linux-x86-64.so.2 (0x00007f01)\n";
        let found = paths(said).expect("readable");
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].to_str(), Some("/lib/x86_64-linux-gnu/libc.so.6"));
        assert_eq!(found[1].to_str(), Some("/lib64/ld-linux-x86-64.so.2"));
    }

    #[test]
    fn a_missing_library_is_named() {
        let error = paths("\tlibweft.so => not found\n").expect_err("missing");
        assert!(error.to_string().contains("libweft.so"), "{error}");
    }
}
