//! Where things are pinned.
//!
//! ```text
//! <pin_dir>/maps-vN/NAME     maps, in a folder for each version of the shared layout
//! <pin_dir>/links/PROGRAM    the attachments to the cgroup
//! <pin_dir>/pods/COOKIE      the attachment to a pod's namespace
//! ```

use super::{KernelError, sys};
use nix::{
    mount::{MsFlags, mount},
    sys::statfs::{BPF_FS_MAGIC, statfs},
};
use std::{
    fs, io,
    os::fd::AsFd,
    path::{Path, PathBuf},
};

/// Where systems mount bpffs.
const BPFFS: &str = "/sys/fs/bpf";

/// The paths of the pins below one directory.
#[derive(Clone, Debug)]
pub(super) struct Pins {
    root: PathBuf,
}

impl Pins {
    /// Makes the directories. Where bpffs is missing it is mounted if `mount` says so: in a mount namespace of the process's
    /// own, pins would be gone with it, and with them everything that goes on while no agent runs.
    pub(super) fn prepare(root: &Path, mount: bool) -> Result<Self, KernelError> {
        match (is_bpffs(root)?, mount) {
            (true, _) => {}
            (false, true) => mount_bpffs(root)?,
            (false, false) => return Err(KernelError::NoBpffs { path: root.to_owned() }),
        }
        let pins = Self { root: root.to_owned() };
        for dir in [pins.maps(), pins.links(), pins.pods()] {
            fs::create_dir_all(&dir).map_err(KernelError::file("create", dir))?;
        }
        Ok(pins)
    }

    /// The folder of the maps of this version.
    pub(super) fn maps(&self) -> PathBuf {
        self.root.join(format!("maps-v{}", weft_ebpf_abi::VERSION))
    }

    /// The pin of a map.
    pub(super) fn map(&self, name: &str) -> PathBuf {
        self.maps().join(name)
    }

    /// The folder of the attachments to the cgroup.
    pub(super) fn links(&self) -> PathBuf {
        self.root.join("links")
    }

    /// The folder of the attachments to pods.
    pub(super) fn pods(&self) -> PathBuf {
        self.root.join("pods")
    }

    /// The pin of a pod's attachment.
    pub(super) fn pod(&self, cookie: u64) -> PathBuf {
        self.pods().join(cookie.to_string())
    }

    /// Removes the maps of other versions of the layout.
    pub(super) fn forget_other_versions(&self) -> Result<(), KernelError> {
        for entry in list(&self.root)? {
            let name = entry.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
            if name.starts_with("maps-v") && entry != self.maps() {
                remove_tree(&entry)?;
            }
        }
        Ok(())
    }

    /// Removes every pin: what was attached is detached, and maps end with their last user.
    pub(super) fn remove(&self) -> Result<(), KernelError> {
        // Links first, so that no program runs on maps that are half gone.
        for dir in [self.links(), self.pods()] {
            list(&dir)?.iter().try_for_each(|pin| remove_link(pin))?;
        }
        for dir in [self.links(), self.pods(), self.root.clone()] {
            remove_tree(&dir)?;
        }
        Ok(())
    }
}

/// The paths in a directory; none where it does not exist.
pub(super) fn list(dir: &Path) -> Result<Vec<PathBuf>, KernelError> {
    match fs::read_dir(dir) {
        Ok(entries) => entries.map(|e| e.map(|e| e.path())).collect::<Result<_, _>>(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(e),
    }
    .map_err(KernelError::file("list", dir))
}

/// Removes a file that may not be there.
pub(super) fn remove_file(path: &Path) -> Result<(), KernelError> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(KernelError::file("remove", path)(e)),
        _ => Ok(()),
    }
}

/// Detaches a pinned link and removes its pin; neither need be there.
pub(super) fn remove_link(pin: &Path) -> Result<(), KernelError> {
    if let Ok(link) = sys::open_pin(pin) {
        // One whose namespace is gone has nothing left to detach from.
        let _ = sys::detach_link(link.as_fd());
    }
    remove_file(pin)
}

fn remove_tree(dir: &Path) -> Result<(), KernelError> {
    for path in list(dir)? {
        if path.is_dir() { remove_tree(&path)? } else { remove_file(&path)? }
    }
    match fs::remove_dir(dir) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(KernelError::file("remove", dir)(e)),
        _ => Ok(()),
    }
}

/// Whether the directory, or what of its path is there, is on a bpffs.
pub(super) fn is_bpffs(root: &Path) -> Result<bool, KernelError> {
    let existing = root.ancestors().find(|dir| dir.exists()).unwrap_or(Path::new("/"));
    let kind = statfs(existing).map_err(|e| KernelError::file("look at", existing)(e.into()))?;
    Ok(kind.filesystem_type() == BPF_FS_MAGIC)
}

fn mount_bpffs(root: &Path) -> Result<(), KernelError> {
    let at = if root.starts_with(BPFFS) { Path::new(BPFFS) } else { root };
    fs::create_dir_all(at).map_err(KernelError::file("create", at))?;
    mount(Some("bpf"), at, Some("bpf"), MsFlags::empty(), Some("mode=0700"))
        .map_err(|e| KernelError::file("mount bpffs at", at)(e.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_bpffs_nothing_is_pinned_and_nothing_mounted_where_that_would_not_last() {
        let dir = tempfile::tempdir().unwrap();
        let pins = dir.path().join("weft/node-1");
        let error = Pins::prepare(&pins, false).unwrap_err();
        assert!(matches!(error, KernelError::NoBpffs { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains("hostPath") && text.contains("mount -t bpf"), "{text}");
        assert!(!pins.exists());
    }
}
