//! cgroup v2 subtrees: one per run, node and pod.

use anyhow::{Context, Result, bail};
use std::{
    fs, io,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

/// Where cgroup v2 is mounted: at /sys/fs/cgroup where it is alone, elsewhere beside v1 controllers.
pub fn root() -> Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/mounts")?;
    mount_of_type(&mounts, "cgroup2")
        .context("cgroup v2 is not mounted: mount -t cgroup2 none /sys/fs/cgroup")
}

fn mount_of_type(mounts: &str, kind: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let path = fields.next()?;
        (fields.next()? == kind).then(|| path.into())
    })
}

/// Kills every process in the subtree.
pub fn kill(cgroup: &Path) -> Result<()> {
    fs::write(cgroup.join("cgroup.kill"), "1").context("cannot kill the cgroup's processes")
}

/// Kills every process in the subtree and removes it.
pub fn remove(cgroup: &Path) -> Result<()> {
    const ATTEMPTS: u32 = 200;
    if !cgroup.exists() {
        return Ok(());
    }
    kill(cgroup)?;
    for _ in 0..ATTEMPTS {
        match remove_empty(cgroup) {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {}
            result => return result.with_context(|| format!("cannot remove {}", cgroup.display())),
        }
        // The killed processes are still on their way out.
        thread::sleep(Duration::from_millis(10));
    }
    bail!("{} still has processes", cgroup.display())
}

fn remove_empty(cgroup: &Path) -> io::Result<()> {
    for entry in fs::read_dir(cgroup)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_empty(&entry.path())?;
        }
    }
    fs::remove_dir(cgroup)
}

/// The processes in the cgroup itself (not below it).
pub fn processes(cgroup: &Path) -> Result<Vec<i32>> {
    let text = fs::read_to_string(cgroup.join("cgroup.procs"))?;
    Ok(text.lines().filter_map(|line| line.parse().ok()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mount_is_found_beside_v1() {
        let mounts = "tmpfs /sys/fs/cgroup tmpfs rw 0 0\n\
                      cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n\
                      cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        assert_eq!(mount_of_type(mounts, "cgroup2"), Some("/sys/fs/cgroup/unified".into()));
        assert_eq!(mount_of_type("proc /proc proc rw 0 0\n", "cgroup2"), None);
    }
}
