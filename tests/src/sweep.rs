//! Removal by name: everything that a run made, whether or not the run is still there to ask.

use crate::{cgroup, disk, run};
use anyhow::{Context, Result};
use std::{fs, io, path::Path};

/// Where `ip netns` keeps its handles.
const NAMESPACES: &str = "/run/netns";

/// Where BPF objects are pinned.
pub const BPFFS: &str = "/sys/fs/bpf";

/// Removes all that carries the run's name: processes, cgroups, pins, namespaces (and with them their links), files.
/// Goes on past what fails, and then says what did.
pub fn remove(run: &str) -> Result<()> {
    clear(run)?;
    remove_tree(&run::directory(run))
}

/// Like [`remove`], but leaves the run's directory with the lock in it.
pub(crate) fn clear(run: &str) -> Result<()> {
    let mut failed = Vec::new();
    let mut attempt = |what: &str, result: Result<()>| {
        if let Err(error) = result {
            failed.push(format!("{what}: {error:#}"));
        }
    };
    attempt("processes and cgroups", cgroup::remove(&cgroup::root()?.join(run)));
    attempt("pins", remove_tree(&Path::new(BPFFS).join(run)));
    attempt("namespaces", remove_namespaces(run));
    let directory = run::directory(run);
    attempt("mounts", disk::unmount_below(&directory));
    for file in list(&directory)?.into_iter().filter(|file| file != run::LOCK) {
        attempt("files", remove_tree(&directory.join(file)));
    }
    anyhow::ensure!(failed.is_empty(), "{run} is not all gone: {}", failed.join("; "));
    Ok(())
}

/// Removes the runs that nobody holds and that were not asked to stay; their names.
pub fn remove_stale() -> Result<Vec<String>> {
    let mut gone = Vec::new();
    for name in names()? {
        let kept = is_kept(&name);
        // The lock is held until the run is gone, so that two sweeps do not meet in one.
        if let (false, Some(_lock)) = (kept, run::lock(&name)?) {
            remove(&name)?;
            gone.push(name);
        }
    }
    Ok(gone)
}

/// Whether the run of this name was asked to stay when its owner went.
pub fn is_kept(run: &str) -> bool {
    run::directory(run).join(run::KEEP).exists()
}

/// Removes the runs that nobody holds any more and that were asked to stay; their names.
pub fn remove_kept() -> Result<Vec<String>> {
    let mut gone = Vec::new();
    for name in names()? {
        if let Some(_lock) = run::lock(&name)? {
            remove(&name)?;
            gone.push(name);
        }
    }
    Ok(gone)
}

/// What is left of the run on this machine, for people and for tests: paths and names, empty when it is all gone.
pub fn remains(run: &str) -> Result<Vec<String>> {
    let mut left: Vec<String> =
        namespaces(run)?.into_iter().map(|name| format!("namespace {name}")).collect();
    for path in [cgroup::root()?.join(run), Path::new(BPFFS).join(run), run::directory(run)] {
        if path.exists() {
            left.push(path.display().to_string());
        }
    }
    Ok(left)
}

/// The names of all runs of which this machine still holds something, sorted.
pub fn names() -> Result<Vec<String>> {
    let mut names = std::collections::BTreeSet::new();
    for directory in [Path::new(run::DIRECTORY), &cgroup::root()?, Path::new(BPFFS)] {
        names.extend(list(directory)?.into_iter().filter(|name| name.starts_with(run::PREFIX)));
    }
    Ok(names.into_iter().collect())
}

fn namespaces(run: &str) -> Result<Vec<String>> {
    let prefix = format!("{run}-");
    Ok(list(Path::new(NAMESPACES))?.into_iter().filter(|name| name.starts_with(&prefix)).collect())
}

fn remove_namespaces(run: &str) -> Result<()> {
    let names = namespaces(run)?;
    crate::ip::batch(None, &names.iter().map(|name| format!("netns delete {name}")).collect::<Vec<_>>())
}

fn list(directory: &Path) -> Result<Vec<String>> {
    match fs::read_dir(directory) {
        Ok(entries) => {
            Ok(entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error).with_context(|| format!("cannot list {}", directory.display())),
    }
}

/// Like `remove_dir_all`, but by plain unlink and rmdir, which is all that bpffs knows.
fn remove_tree(path: &Path) -> Result<()> {
    let failed = || format!("cannot remove {}", path.display());
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(failed),
        Ok(found) if !found.is_dir() => return fs::remove_file(path).with_context(failed),
        Ok(_) => {}
    }
    for name in list(path)? {
        remove_tree(&path.join(name))?;
    }
    fs::remove_dir(path).with_context(failed)
}
