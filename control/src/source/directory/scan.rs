//! Looking at the whole directory, and what changed since the last look.
//!
//! A file may be caught while it is being written: empty, cut off, or between a deletion and a rename. So what
//! disappears is believed only when a second look, a little later, finds the file unchanged; and nothing disappears from
//! a file of which some part cannot be read.

use super::file::{self, Contents, Stamp};
use crate::source::Batch;
use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};
use weft_api::{Object, ObjectKey};
use weft_index::{Change, Finding, Severity};

/// How long a file must stay as it is before what vanished from it is gone.
const SETTLED: Duration = Duration::from_millis(50);
/// Directories deeper than this are not looked into: something goes in circles.
const DEEPEST: usize = 32;

/// What is known of one file.
#[derive(Debug)]
struct Seen {
    /// `None` once the file is gone.
    stamp: Option<Stamp>,
    contents: Contents,
    /// What the file said before and does not say now.
    lingering: BTreeMap<ObjectKey, Arc<Object>>,
    since: Instant,
}

/// The directory as it was at the last look.
#[derive(Debug)]
pub struct Scanner {
    root: PathBuf,
    files: BTreeMap<PathBuf, Seen>,
    told: BTreeMap<ObjectKey, Arc<Object>>,
    findings: Vec<Finding>,
    left_out: bool,
}

impl Scanner {
    /// A scanner that has not looked yet.
    pub fn new(root: PathBuf) -> Self {
        Self { root, files: BTreeMap::new(), told: BTreeMap::new(), findings: Vec::new(), left_out: false }
    }

    /// Looks; `None` where nothing changed.
    pub fn scan(&mut self, now: Instant) -> Option<Batch> {
        self.scan_without(now, |_| false)
    }

    /// Looks, and takes files that are unfinished for what they said before.
    pub(super) fn scan_without(
        &mut self,
        now: Instant,
        is_unfinished: impl Fn(&Path) -> bool,
    ) -> Option<Batch> {
        self.left_out = false;
        let mut found = BTreeSet::new();
        let mut findings = Vec::new();
        if !self.root.is_dir() {
            // Being unmounted or replaced: that is no reason to take the mesh apart.
            findings.push(unreadable(&self.root, "it is not there"));
            return self.tell(findings);
        }
        list(&self.root, 0, &mut HashSet::new(), &mut found, &mut findings);
        for path in &found {
            if is_unfinished(path) {
                self.left_out = true;
            } else {
                self.look(path, now);
            }
        }
        for (_, seen) in
            self.files.iter_mut().filter(|(path, seen)| seen.stamp.is_some() && !found.contains(*path))
        {
            let gone = std::mem::take(&mut seen.contents);
            seen.lingering.extend(gone.objects);
            (seen.stamp, seen.since) = (None, now);
        }
        for seen in self.files.values_mut() {
            if !seen.contents.is_broken() && now.duration_since(seen.since) >= SETTLED {
                seen.lingering.clear();
            }
        }
        self.files.retain(|_, seen| seen.stamp.is_some() || !seen.lingering.is_empty());
        self.tell(findings)
    }

    /// Whether the last look left unfinished files out.
    pub(super) fn left_out(&self) -> bool {
        self.left_out
    }

    /// When to look again without being asked: soon, while something lingers that may really be gone.
    pub fn recheck_in(&self, now: Instant) -> Option<Duration> {
        let waiting = self.files.values().filter(|s| !s.lingering.is_empty() && !s.contents.is_broken());
        waiting
            .map(|s| (s.since + SETTLED).saturating_duration_since(now).max(Duration::from_millis(1)))
            .min()
    }

    fn look(&mut self, path: &Path, now: Instant) {
        let stamp = Stamp::of(path).ok();
        let old = self.files.remove(path);
        let seen = match old {
            Some(old) if old.stamp.is_some() && old.stamp == stamp => old,
            old => {
                let contents = file::read(path);
                let mut lingering = BTreeMap::new();
                if let Some(old) = old {
                    lingering = old.lingering;
                    lingering.extend(old.contents.objects);
                    lingering.retain(|key, old| stays(old, contents.objects.get(key)));
                }
                Seen { stamp, contents, lingering, since: now }
            }
        };
        self.files.insert(path.to_owned(), seen);
    }

    /// Puts all files together, and compares with what was told before.
    fn tell(&mut self, mut findings: Vec<Finding>) -> Option<Batch> {
        let mut objects: BTreeMap<&ObjectKey, (&Arc<Object>, &Path)> = BTreeMap::new();
        for (path, seen) in &self.files {
            findings.extend(seen.contents.findings.iter().cloned());
            for (key, object) in seen.contents.objects.iter().filter(|(_, object)| !object.is_broken()) {
                if let Some((_, first)) = objects.get(key) {
                    findings.push(file::twice(
                        key,
                        &path.display().to_string(),
                        &first.display().to_string(),
                    ));
                } else {
                    objects.insert(key, (object, path));
                }
            }
        }
        // What lingers holds only where no file says it better: it may have moved from one file to another. And what is left
        // of a policy that cannot be read speaks for it only where no version that can be read does.
        for broken in [false, true] {
            for (path, seen) in &self.files {
                let both = seen.contents.objects.iter().chain(&seen.lingering);
                for (key, object) in both.filter(|(_, object)| object.is_broken() == broken) {
                    objects.entry(key).or_insert((object, path));
                }
            }
        }
        let gone = self.told.keys().filter(|key| !objects.contains_key(key)).cloned().map(Change::Gone);
        let mut changes: Vec<Change> = gone.collect();
        for (key, (object, _)) in &objects {
            if self.told.get(key).is_none_or(|told| !Arc::ptr_eq(told, object) && told != *object) {
                changes.push(Change::Put(Box::new(Object::clone(object))));
            }
        }
        if changes.is_empty() && findings == self.findings {
            return None;
        }
        let places = objects.iter().map(|(key, (_, path))| (Clone::clone(*key), path.display().to_string()));
        let places = places.collect();
        self.told = objects.into_iter().map(|(key, (object, _))| (key.clone(), object.clone())).collect();
        self.findings = findings.clone();
        Some(Batch { changes, findings, places, more: false })
    }
}

/// Collects the manifests below `dir`. Hidden entries are skipped: a mounted ConfigMap keeps its generations in them, and
/// shows the current one through plain names.
fn list(
    dir: &Path,
    depth: usize,
    above: &mut HashSet<PathBuf>,
    found: &mut BTreeSet<PathBuf>,
    findings: &mut Vec<Finding>,
) {
    let Ok(real) = dir.canonicalize() else { return };
    if depth > DEEPEST || !above.insert(real.clone()) {
        return;
    }
    match fs::read_dir(dir) {
        Ok(entries) => {
            for path in entries.flatten().map(|e| e.path()).filter(|p| !is_hidden(p)) {
                if path.is_dir() {
                    list(&path, depth + 1, above, found, findings);
                } else if is_manifest(&path) && path.is_file() {
                    found.insert(path);
                }
            }
        }
        Err(error) => findings.push(unreadable(dir, &error)),
    }
    above.remove(&real);
}

/// Whether a file was written less than `age` ago. A clock that says otherwise than the file system's is not believed.
pub(super) fn is_younger(path: &Path, age: Duration) -> bool {
    let modified = fs::metadata(path).and_then(|m| m.modified()).ok();
    modified.and_then(|at| at.elapsed().ok()).is_some_and(|passed| passed < age)
}

/// Whether what a file said of an object before goes on to count beside what it says now: a version that can be read does,
/// beside one that cannot.
fn stays(old: &Object, new: Option<&Arc<Object>>) -> bool {
    new.is_none_or(|new| new.is_broken() && !old.is_broken())
}

fn unreadable(dir: &Path, why: impl std::fmt::Display) -> Finding {
    Finding {
        severity: Severity::Error,
        file: Some(dir.display().to_string()),
        object: None,
        field: String::new(),
        message: format!("the directory cannot be read: {why}"),
        mend: "make it readable; what was read before stays in force".into(),
    }
}

fn is_hidden(path: &Path) -> bool {
    path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."))
}

fn is_manifest(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == "yaml" || e == "yml" || e == "json")
}
