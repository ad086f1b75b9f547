//! Pods listed in a file, or in the `.yaml` files of a directory: the mode without Kubernetes.

use super::{PodSource, PodSpec};
use notify::{EventKind, RecursiveMode, Watcher};
use serde::Deserialize;
use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::sync::mpsc;

/// Editors and tools write in several steps; a burst of them is read once.
const SETTLE: Duration = Duration::from_millis(10);
/// Where the watch cannot be had (the directory does not exist yet), the list is read this often.
const POLL: Duration = Duration::from_secs(2);

/// Reads [`PodSpec`]s from a path, and again whenever something there changes.
pub struct DirectorySource {
    path: PathBuf,
    last: Option<Vec<PodSpec>>,
    events: mpsc::Receiver<()>,
    _watcher: Option<notify::RecommendedWatcher>,
}

/// The contents of one file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Listing {
    pods: Vec<PodSpec>,
}

/// Why a listing cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ListingError {
    /// The file, or the directory, cannot be read.
    #[error("cannot read {path}: {source}", path = path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not a list of pods.
    #[error("{path}: {source}", path = path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: serde_yaml_ng::Error,
    },
}

impl DirectorySource {
    /// Reads `path`, a file or a directory, which need not exist yet.
    pub fn new(path: PathBuf) -> Self {
        let (tx, events) = mpsc::channel(1);
        // A file is watched through its directory, since most tools replace files instead of writing into them.
        let watched = if path.is_dir() { Some(path.as_path()) } else { path.parent() };
        let watcher = watched.and_then(|dir| match watch(dir, tx) {
            Ok(watcher) => Some(watcher),
            Err(error) => {
                tracing::warn!(path = %dir.display(), %error, "cannot watch the list of pods; reading it every 2 s");
                None
            }
        });
        Self { path, last: None, events, _watcher: watcher }
    }

    /// The first list. A path where nothing is yet is an empty one; one that cannot be read now is not: the pods of an agent
    /// before this one would be let go.
    async fn first(&mut self) -> Vec<PodSpec> {
        loop {
            match read_listing(&self.path) {
                Ok(pods) => return pods,
                Err(ListingError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                    return Vec::new();
                }
                Err(error) => tracing::error!(%error, "waiting for a list of pods that can be used"),
            }
            let _ = tokio::time::timeout(POLL, self.events.recv()).await;
            tokio::time::sleep(SETTLE).await;
        }
    }

    fn read(&mut self) -> Option<Vec<PodSpec>> {
        match read_listing(&self.path) {
            Ok(pods) => Some(pods),
            Err(error) => {
                tracing::error!(%error, "the list of pods is not usable; the last good one stays in force");
                None
            }
        }
    }
}

fn watch(dir: &Path, tx: mpsc::Sender<()>) -> notify::Result<notify::RecommendedWatcher> {
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        if event.is_ok_and(|e| is_access(e.kind)) {
            return;
        }
        // Full means that a reading is already due.
        let _ = tx.try_send(());
    })?;
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    watcher.watch(dir, RecursiveMode::NonRecursive)?;
    Ok(watcher)
}

/// Whether somebody only looked: reading the list is told as well, and must not be the cause of the next reading.
fn is_access(kind: EventKind) -> bool {
    matches!(kind, EventKind::Access(_))
}

#[async_trait::async_trait]
impl PodSource for DirectorySource {
    async fn next(&mut self) -> Vec<PodSpec> {
        if self.last.is_none() {
            let pods = self.first().await;
            return self.last.insert(pods).clone();
        }
        loop {
            // Without a watcher the channel is closed, and only the clock is left.
            let _ = tokio::time::timeout(POLL, async {
                if self.events.recv().await.is_none() {
                    std::future::pending::<()>().await;
                }
            })
            .await;
            tokio::time::sleep(SETTLE).await;
            while self.events.try_recv().is_ok() {}
            if let Some(pods) = self.read()
                && self.last.as_ref() != Some(&pods)
            {
                return self.last.insert(pods).clone();
            }
        }
    }
}

/// The pods of a file or directory, sorted, each once.
pub fn read_listing(path: &Path) -> Result<Vec<PodSpec>, ListingError> {
    let mut pods = Vec::new();
    for file in files(path)? {
        let text = std::fs::read_to_string(&file)
            .map_err(|source| ListingError::Read { path: file.clone(), source })?;
        if text.trim().is_empty() {
            continue;
        }
        let listing: Listing =
            serde_yaml_ng::from_str(&text).map_err(|source| ListingError::Parse { path: file, source })?;
        pods.extend(listing.pods);
    }
    pods.sort();
    pods.dedup_by(|b, a| {
        let twice = (&a.namespace, &a.name) == (&b.namespace, &b.name);
        if twice && a.netns != b.netns {
            tracing::error!(pod = %a, first = %a.netns, second = %b.netns,
                "listed twice with different network namespaces; the first one holds");
        }
        twice
    });
    Ok(pods)
}

fn files(path: &Path) -> Result<Vec<PathBuf>, ListingError> {
    let failed = |source| ListingError::Read { path: path.to_owned(), source };
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in path.read_dir().map_err(failed)? {
        let file = entry.map_err(failed)?.path();
        if file.extension().is_some_and(|e| e == "yaml" || e == "yml" || e == "json") {
            files.push(file);
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WEB: &str = "pods:\n- {namespace: shop, name: web, netns: /run/netns/web}\n";

    #[tokio::test]
    async fn lists_at_once_and_again_after_a_change() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("web.yaml"), WEB).unwrap();
        let mut source = DirectorySource::new(dir.path().to_owned());
        assert_eq!(source.next().await.len(), 1);
        std::fs::write(dir.path().join("db.yaml"), WEB.replace("web", "db")).unwrap();
        let pods = tokio::time::timeout(Duration::from_secs(20), source.next()).await.unwrap();
        assert_eq!(pods.iter().map(ToString::to_string).collect::<Vec<_>>(), ["shop/db", "shop/web"]);
    }

    /// The kernel tells of events in their order, so what reading caused would be there before the end of the test is told.
    #[test]
    fn reading_the_list_is_no_reason_to_read_it_again() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("web.yaml"), WEB).unwrap();
        let (tx, told) = std::sync::mpsc::channel();
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            let _ = tx.send(event.unwrap());
        })
        .unwrap();
        watcher.watch(dir.path(), RecursiveMode::NonRecursive).unwrap();
        assert_eq!(read_listing(dir.path()).unwrap().len(), 1);
        std::fs::write(dir.path().join("last"), "").unwrap();
        let is_last = |e: &notify::Event| e.paths.iter().any(|p| p.ends_with("last"));
        let next = || told.recv_timeout(Duration::from_secs(20)).unwrap();
        let by_reading: Vec<_> = std::iter::from_fn(|| Some(next()).filter(|e| !is_last(e))).collect();
        assert!(!by_reading.is_empty(), "the kernel tells of it");
        assert!(by_reading.iter().all(|e| is_access(e.kind)), "{by_reading:?}");
    }

    #[test]
    fn errors_name_the_file_and_the_field() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pods.yaml");
        std::fs::write(&file, "pods:\n- {namespace: shop, name: web, netnss: /x}\n").unwrap();
        let error = read_listing(&file).unwrap_err().to_string();
        assert!(error.contains("pods.yaml") && error.contains("netnss"), "{error}");
        assert!(matches!(read_listing(&dir.path().join("none.yaml")), Err(ListingError::Read { .. })));
    }

    #[test]
    fn a_pod_listed_twice_counts_once() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a.yaml"), WEB).unwrap();
        std::fs::write(dir.path().join("b.yaml"), WEB.replace("/run/netns/web", "/run/netns/other")).unwrap();
        std::fs::write(dir.path().join("empty.yaml"), "\n").unwrap();
        assert_eq!(read_listing(dir.path()).unwrap().len(), 1);
    }
}
