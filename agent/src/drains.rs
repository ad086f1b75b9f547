//! What the drains of this node's agents cut, told by those that come after them: when a drain is over, nobody asks the agent
//! that drained any more.
//!
//! A file in the state directory holds the sums since the machine started, and the last drain. Whoever ends a drain adds to it
//! under a lock, since two agents may end at the same moment.

use serde::{Deserialize, Serialize};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::SystemTime,
};

/// The longest file that is read; it holds some numbers.
const LONGEST: u64 = 4096;

/// Connections that were cut, by direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cut {
    /// Those that local pods had opened.
    pub outbound: u64,
    /// Those to local pods.
    pub inbound: u64,
}

/// What is known of the drains since the machine started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drained {
    /// The machine's start.
    boot: String,
    /// How many drains there were.
    pub drains: u64,
    /// What all of them cut.
    pub cut: Cut,
    /// What the last one cut.
    pub last: Cut,
    /// When it was over, in milliseconds since 1970.
    pub ended_ms: u64,
}

/// The file.
#[derive(Clone, Debug)]
pub struct Drains {
    path: PathBuf,
}

impl Drains {
    /// That of the agents with this state directory.
    pub fn new(state: &Path) -> Self {
        Self { path: state.join("drains.json") }
    }

    /// Adds a drain that is over.
    pub fn add(&self, cut: Cut) -> io::Result<()> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut file = options.open(&self.path)?;
        file.lock()?;
        // What cannot be read any more is begun anew: it must not keep later drains from being told.
        let known = read(&mut file).unwrap_or_default();
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let sum = Drained {
            boot: boot()?,
            drains: known.drains + 1,
            cut: Cut {
                outbound: known.cut.outbound.saturating_add(cut.outbound),
                inbound: known.cut.inbound.saturating_add(cut.inbound),
            },
            last: cut,
            ended_ms: now.as_millis().try_into().unwrap_or(u64::MAX),
        };
        file.rewind()?;
        file.set_len(0)?;
        file.write_all(&serde_json::to_vec(&sum)?)
    }

    /// What is known; nothing where no agent has drained since the machine started.
    pub fn read(&self) -> io::Result<Drained> {
        let mut file = match File::open(&self.path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Drained::default()),
            file => file?,
        };
        file.lock_shared()?;
        read(&mut file)
    }
}

fn read(file: &mut File) -> io::Result<Drained> {
    let mut text = String::new();
    file.take(LONGEST).read_to_string(&mut text)?;
    if text.is_empty() {
        return Ok(Drained::default());
    }
    let known: Drained = serde_json::from_str(&text)?;
    Ok(if known.boot == boot()? { known } else { Drained::default() })
}

/// Tells one start of the machine from another.
pub fn boot() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drains_add_up_until_the_machine_starts_anew() {
        let dir = tempfile::tempdir().unwrap();
        let drains = Drains::new(dir.path());
        assert_eq!(drains.read().unwrap(), Drained::default());
        drains.add(Cut { outbound: 2, inbound: 1 }).unwrap();
        drains.add(Cut { outbound: 0, inbound: 3 }).unwrap();
        let known = drains.read().unwrap();
        assert_eq!((known.drains, known.cut), (2, Cut { outbound: 2, inbound: 4 }));
        assert_eq!(known.last, Cut { outbound: 0, inbound: 3 });
        let text = fs::read_to_string(&drains.path).unwrap();
        fs::write(&drains.path, text.replace(&boot().unwrap(), "another")).unwrap();
        assert_eq!(drains.read().unwrap(), Drained::default());
        fs::write(&drains.path, "not a number").unwrap();
        assert!(drains.read().is_err());
        drains.add(Cut::default()).unwrap();
        assert_eq!(drains.read().unwrap().drains, 1);
    }

    #[test]
    fn two_that_end_at_the_same_moment_both_count() {
        let dir = tempfile::tempdir().unwrap();
        let drains = Drains::new(dir.path());
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| drains.add(Cut { outbound: 1, inbound: 0 }).unwrap());
            }
        });
        assert_eq!(drains.read().unwrap().cut.outbound, 8);
    }
}
