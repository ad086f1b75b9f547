//! Finding the root of cgroup v2, where it may be mounted in two places.

use super::KernelError;
use std::{fs, path::PathBuf};

/// Where cgroup v2 is mounted: `/sys/fs/cgroup` on a unified system, `/sys/fs/cgroup/unified` on a hybrid one.
pub fn find_cgroup() -> Result<PathBuf, KernelError> {
    let path = "/proc/self/mounts";
    let mounts = fs::read_to_string(path).map_err(KernelError::file("read", path))?;
    cgroup_of(&mounts).ok_or(KernelError::NoCgroup)
}

/// The first mount of type `cgroup2`, in the format of fstab(5).
fn cgroup_of(mounts: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (path, kind) = (fields.next()?, fields.next()?);
        (kind == "cgroup2").then(|| path.replace("\\040", " ").into())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_it_wherever_it_is() {
        let hybrid = "tmpfs /sys/fs/cgroup tmpfs rw 0 0\n\
                      cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n\
                      cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        assert_eq!(cgroup_of(hybrid), Some("/sys/fs/cgroup/unified".into()));
        let unified = "sysfs /sys sysfs rw 0 0\ncgroup2 /sys/fs/cgroup cgroup2 rw,nsdelegate 0 0\n";
        assert_eq!(cgroup_of(unified), Some("/sys/fs/cgroup".into()));
        assert_eq!(cgroup_of("none /my\\040groups cgroup2 rw 0 0"), Some("/my groups".into()));
        assert_eq!(cgroup_of("proc /proc proc rw 0 0"), None);
    }
}
