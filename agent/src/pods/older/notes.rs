//! Which connections are older than a pod's last step into the mesh or out of it.
//!
//! Nothing in the kernel tells a socket's age, so what is open at the step is noted by the sockets' cookies, in a file for
//! each pod. What is listed later is what the kernel has open then, and a note only says which of it is meant. It outlives
//! the agent; one of an earlier start of the machine, whose cookies mean other sockets, does not count.

use super::Open;
use crate::drains::boot;
use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};
use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

/// Connections of one pod that are noted; of more, these.
const MOST: usize = 65_536;
/// The longest file that is read: as many numbers of twenty digits, and some more.
const LONGEST: u64 = (MOST as u64) * 24;

/// What the pod did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// It came into the mesh.
    Joined,
    /// It left the mesh.
    Left,
}

impl Change {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Joined => "joined",
            Self::Left => "left",
        }
    }
}

/// What was open at one step of a pod.
#[derive(Clone, Debug)]
pub struct Note {
    /// Which step.
    pub change: Change,
    /// When.
    pub at: SystemTime,
    /// By cookie: whether it was asked for from outside.
    connections: FxHashMap<u64, bool>,
}

impl Note {
    /// Whether a connection came from outside; none for one that is not noted.
    pub fn direction(&self, cookie: u64) -> Option<bool> {
        self.connections.get(&cookie).copied()
    }
}

#[derive(Serialize, Deserialize)]
struct Written {
    /// The machine's start.
    boot: String,
    change: Change,
    /// Since 1970.
    at_ms: u64,
    inbound: Vec<u64>,
    outbound: Vec<u64>,
}

/// The notes of the node's pods, by the cookies of their namespaces.
#[derive(Clone, Debug)]
pub struct Notes {
    dir: PathBuf,
}

impl Notes {
    /// Those below the agent's state directory.
    pub fn new(state: &Path) -> Self {
        Self { dir: state.join("older") }
    }

    /// Notes what was open, in the place of what was noted before.
    pub fn write(&self, pod: u64, change: Change, open: &[Open]) -> io::Result<()> {
        if open.is_empty() {
            self.forget(pod);
            return Ok(());
        }
        let those = |inbound: bool| {
            open.iter().take(MOST).filter(|one| one.inbound == inbound).map(|one| one.cookie).collect()
        };
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let written = Written {
            boot: boot()?,
            change,
            at_ms: since.as_millis().try_into().unwrap_or(u64::MAX),
            inbound: those(true),
            outbound: those(false),
        };
        fs::create_dir_all(&self.dir)?;
        let fresh = self.dir.join(format!(".{pod}.{}", std::process::id()));
        fs::write(&fresh, serde_json::to_vec(&written)?)?;
        fs::rename(&fresh, self.path(pod))
    }

    /// What is noted of a pod.
    pub fn read(&self, pod: u64) -> io::Result<Option<Note>> {
        let path = self.path(pod);
        match fs::metadata(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Ok(file) if file.len() > LONGEST => {
                return Err(io::Error::new(
                    io::ErrorKind::FileTooLarge,
                    "the note is longer than any that is written",
                ));
            }
            _ => {}
        }
        let written: Written = serde_json::from_slice(&fs::read(&path)?)?;
        if written.boot != boot()? {
            return Ok(None);
        }
        let of = |cookies: Vec<u64>, inbound| cookies.into_iter().map(move |cookie| (cookie, inbound));
        Ok(Some(Note {
            change: written.change,
            at: SystemTime::UNIX_EPOCH + Duration::from_millis(written.at_ms),
            connections: of(written.inbound, true).chain(of(written.outbound, false)).collect(),
        }))
    }

    /// Drops what is noted of a pod.
    pub fn forget(&self, pod: u64) {
        // Mostly there is nothing.
        let _ = fs::remove_file(self.path(pod));
    }

    /// Drops what is noted of all pods but those.
    pub fn keep_only(&self, pods: &[u64]) {
        for entry in fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let pod = name.to_str().and_then(|name| name.strip_suffix(".json")?.parse::<u64>().ok());
            if pod.is_some_and(|pod| !pods.contains(&pod)) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    /// Drops everything that is noted.
    pub fn forget_all(&self) {
        self.keep_only(&[]);
        let _ = fs::remove_dir(&self.dir);
    }

    fn path(&self, pod: u64) -> PathBuf {
        self.dir.join(format!("{pod}.json"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(cookie: u64, inbound: bool) -> Open {
        let [local, remote] = ["10.0.0.1:80", "10.0.0.2:4000"].map(|at| at.parse().unwrap());
        Open { local, remote, inbound, cookie, inode: 0 }
    }

    #[test]
    fn what_was_open_is_known_until_it_is_forgotten_or_the_machine_starts_anew() {
        let dir = tempfile::tempdir().unwrap();
        let notes = Notes::new(dir.path());
        assert!(notes.read(7).unwrap().is_none());
        notes.write(7, Change::Joined, &[open(u64::MAX, true), open(2, false)]).unwrap();
        notes.write(8, Change::Left, &[open(3, true)]).unwrap();
        let note = notes.read(7).unwrap().unwrap();
        assert_eq!(
            (note.change, note.direction(u64::MAX), note.direction(2)),
            (Change::Joined, Some(true), Some(false))
        );
        assert!(note.direction(3).is_none());
        assert!(note.at.elapsed().unwrap() < Duration::from_secs(60));
        notes.keep_only(&[7]);
        assert!(notes.read(8).unwrap().is_none() && notes.read(7).unwrap().is_some());
        let text = fs::read_to_string(notes.path(7)).unwrap();
        fs::write(notes.path(7), text.replace(&boot().unwrap(), "another")).unwrap();
        assert!(notes.read(7).unwrap().is_none(), "its cookies mean other sockets by now");
        fs::write(notes.path(7), "{}").unwrap();
        assert!(notes.read(7).is_err());
        notes.write(7, Change::Left, &[]).unwrap();
        assert!(notes.read(7).unwrap().is_none(), "nothing is open");
    }
}
