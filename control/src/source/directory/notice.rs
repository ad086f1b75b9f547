//! Change notices, and which files are being written.

use notify::{
    Event, EventKind,
    event::{AccessKind, AccessMode, ModifyKind},
};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// A file that somebody keeps open without writing to it for this long is believed as it stands.
const PATIENCE: Duration = Duration::from_secs(5);
/// Files that are remembered as being written; the ones beyond are believed as they stand.
const MOST: usize = 4096;

/// What is told of a change.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Notice {
    /// Somebody wrote to a file and holds it open.
    Written(PathBuf),
    /// A file is whole: it was closed, moved or removed.
    Whole(PathBuf),
    /// Something else.
    Other,
    /// Notices were lost.
    Lost,
}

impl Notice {
    /// The notices in an event; none where somebody only looked.
    pub(super) fn of(event: notify::Result<Event>) -> Vec<Self> {
        let Ok(event) = event else { return vec![Self::Lost] };
        if event.need_rescan() {
            return vec![Self::Lost];
        }
        let each = |notice: fn(PathBuf) -> Self| event.paths.iter().cloned().map(notice).collect();
        match event.kind {
            EventKind::Access(AccessKind::Close(AccessMode::Write)) => each(Self::Whole),
            // Looking at a file must not count as a change of it.
            EventKind::Access(_) => Vec::new(),
            EventKind::Modify(ModifyKind::Data(_)) => each(Self::Written),
            EventKind::Modify(ModifyKind::Name(_)) | EventKind::Remove(_) => each(Self::Whole),
            _ => vec![Self::Other],
        }
    }
}

/// The files that are being written.
#[derive(Debug, Default)]
pub(super) struct Writing(BTreeMap<PathBuf, Instant>);

impl Writing {
    pub(super) fn hear(&mut self, notice: Notice, now: Instant) {
        match notice {
            Notice::Written(path) if self.0.len() < MOST || self.0.contains_key(&path) => {
                self.0.insert(path, now);
            }
            Notice::Whole(path) => drop(self.0.remove(&path)),
            Notice::Lost => self.0.clear(),
            Notice::Written(_) | Notice::Other => {}
        }
    }

    /// Whether the file is being written. Notices name files by absolute paths.
    pub(super) fn holds(&self, path: &Path) -> bool {
        !self.0.is_empty() && std::path::absolute(path).is_ok_and(|absolute| self.0.contains_key(&absolute))
    }

    /// Forgets files that were not written to for long.
    pub(super) fn forget_old(&mut self, now: Instant) {
        self.0.retain(|_, at| now.duration_since(*at) < PATIENCE);
    }

    /// When there is next something to forget.
    pub(super) fn due(&self, now: Instant) -> Option<Duration> {
        self.0.values().map(|at| (*at + PATIENCE).saturating_duration_since(now)).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_being_written_until_it_is_closed_moved_or_left_alone() {
        let (path, now) = (PathBuf::from("/m/a.yaml"), Instant::now());
        let mut writing = Writing::default();
        for end in [Notice::Whole(path.clone()), Notice::Lost] {
            writing.hear(Notice::Written(path.clone()), now);
            writing.hear(Notice::Other, now);
            assert!(writing.holds(&path) && !writing.holds(Path::new("/m/b.yaml")));
            writing.hear(end, now);
            assert!(!writing.holds(&path));
        }
        writing.hear(Notice::Written(path.clone()), now);
        assert_eq!(writing.due(now), Some(PATIENCE));
        writing.forget_old(now + PATIENCE / 2);
        assert!(writing.holds(&path));
        writing.forget_old(now + PATIENCE);
        assert!(!writing.holds(&path) && writing.due(now).is_none());
    }

    #[test]
    fn no_number_of_files_takes_all_the_memory() {
        let mut writing = Writing::default();
        for n in 0..2 * MOST {
            writing.hear(Notice::Written(format!("/m/{n}").into()), Instant::now());
        }
        assert_eq!(writing.0.len(), MOST);
    }
}
