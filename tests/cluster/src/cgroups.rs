//! The cluster's cgroups, in every hierarchy that the machine has.
//!
//! cgroup v2 says who belongs to what: every process of a cluster lies below `weftk8s-<name>` there, so that it is
//! found and ended by name. Where v1 controllers stand beside it, kubelet keeps its pods' limits in those.

use crate::files;
use anyhow::{Context, Result, bail};
use std::{
    fs, io,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};
use weft_tests::cgroup;

/// Where the v1 controllers are mounted; nowhere on a machine that has v2 alone.
fn v1_mounts() -> Result<Vec<PathBuf>> {
    let mounts = files::read(Path::new("/proc/self/mounts"))?;
    Ok(mounts.lines().filter_map(v1_mount).collect())
}

fn v1_mount(line: &str) -> Option<PathBuf> {
    let mut fields = line.split(' ').skip(1);
    let path = fields.next()?;
    (fields.next()? == "cgroup").then(|| path.into())
}

/// Makes `path` (relative to each hierarchy's root) everywhere, ready to hold pods.
pub(crate) fn create(path: &str) -> Result<()> {
    let v2 = cgroup::root()?;
    files::directory(&v2.join(path))?;
    delegate(&v2, path)?;
    for mount in v1_mounts()? {
        files::directory(&mount.join(path))?;
        // A new cpuset is empty, and takes no process until somebody fills it in.
        let mut above = mount.clone();
        for part in Path::new(path) {
            let below = above.join(part);
            for file in ["cpuset.cpus", "cpuset.mems"] {
                inherit(&above.join(file), &below.join(file))?;
            }
            above = below;
        }
    }
    Ok(())
}

fn inherit(from: &Path, to: &Path) -> Result<()> {
    if from.exists() && fs::read_to_string(to).is_ok_and(|value| value.trim().is_empty()) {
        fs::write(to, files::read(from)?).with_context(|| format!("cannot write {}", to.display()))?;
    }
    Ok(())
}

/// Lets what is below `path` use the controllers that v2 has; beside v1 it has none.
fn delegate(root: &Path, path: &str) -> Result<()> {
    let mut at = root.to_owned();
    for part in Path::new(path) {
        let all = files::read(&at.join("cgroup.controllers"))?;
        let wanted: Vec<_> = all.split_whitespace().map(|name| format!("+{name}")).collect();
        if !wanted.is_empty() {
            let file = at.join("cgroup.subtree_control");
            fs::write(&file, wanted.join(" ")).with_context(|| {
                format!("cannot delegate controllers in {}: run where cgroup v2 is writable", file.display())
            })?;
        }
        at = at.join(part);
    }
    Ok(())
}

/// The cgroup in v2, where the processes are counted.
pub(crate) fn v2(path: &str) -> Result<PathBuf> {
    Ok(cgroup::root()?.join(path))
}

/// Ends all processes below `path` and removes it from every hierarchy.
pub(crate) fn remove(path: &str) -> Result<()> {
    cgroup::remove(&v2(path)?)?;
    for mount in v1_mounts()? {
        remove_v1(&mount.join(path))?;
    }
    Ok(())
}

/// In v1 nothing kills; what was in here was killed by its v2 cgroup, or by its namespace's end.
fn remove_v1(path: &Path) -> Result<()> {
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        match remove_empty(path) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy && Instant::now() < end => {}
            Err(error) => bail!("cannot remove {}: {error}", path.display()),
        }
        thread::sleep(Duration::from_millis(10));
    }
}

fn remove_empty(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)?.flatten() {
        if entry.file_type()?.is_dir() {
            remove_empty(&entry.path())?;
        }
    }
    fs::remove_dir(path)
}

/// Where something is left of `path`.
pub(crate) fn remains(path: &str) -> Result<Vec<PathBuf>> {
    let mut all = v1_mounts()?;
    all.push(cgroup::root()?);
    Ok(all.into_iter().map(|mount| mount.join(path)).filter(|path| path.exists()).collect())
}

#[cfg(test)]
mod tests {
    use super::v1_mount;

    #[test]
    fn only_v1_hierarchies_count() {
        assert_eq!(
            v1_mount("cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0"),
            Some("/sys/fs/cgroup/cpu".into())
        );
        assert_eq!(v1_mount("cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0"), None);
        assert_eq!(v1_mount(""), None);
    }
}
