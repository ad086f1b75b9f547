//! Small file systems, to be filled.

use anyhow::{Context, Result, bail};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use std::{
    fs::{self, File},
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
};

/// A file system of its own in a run's directory; it goes with this value, or with the run.
#[derive(Debug)]
pub struct Disk {
    path: PathBuf,
}

impl Disk {
    /// Mounts one of so many KiB at `path`, which is made where it is not there.
    pub fn mount(path: &Path, kib: u32) -> Result<Self> {
        fs::create_dir_all(path)?;
        let options = format!("size={kib}k,mode=0700");
        mount(Some("weft-tests"), path, Some("tmpfs"), MsFlags::empty(), Some(options.as_str()))
            .with_context(|| format!("cannot mount a tmpfs at {}", path.display()))?;
        Ok(Self { path: path.to_owned() })
    }

    /// Writes until there is no room left.
    pub fn fill(&self) -> Result<()> {
        let mut file = File::options().create(true).append(true).open(self.filler())?;
        loop {
            match file.write_all(&[0; 512]) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => return Ok(()),
                Err(error) => bail!("{} cannot be filled: {error}", self.path.display()),
            }
        }
    }

    /// Makes room again.
    pub fn free(&self) -> Result<()> {
        Ok(fs::remove_file(self.filler())?)
    }

    fn filler(&self) -> PathBuf {
        self.path.join("filler")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // The run may have taken it along.
        umount2(&self.path, MntFlags::MNT_DETACH).ok();
    }
}

/// Unmounts what is mounted below `directory`.
pub(crate) fn unmount_below(directory: &Path) -> Result<()> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let paths = mounts.lines().filter_map(|line| line.split(' ').nth(1)).map(Path::new);
    let mut below: Vec<_> = paths.filter(|path| path.starts_with(directory)).collect();
    // The deepest first.
    below.sort();
    below.iter().rev().try_for_each(|path| {
        umount2(*path, MntFlags::MNT_DETACH).with_context(|| format!("cannot unmount {}", path.display()))
    })
}
