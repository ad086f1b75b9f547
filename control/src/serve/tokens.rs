//! Nodes that are known by tokens in files: the mode without Kubernetes.

use super::auth::{Authenticator, Caller, bearer};
use aws_lc_rs::digest::{SHA256, digest};
use rustc_hash::FxHashMap;
use std::{
    collections::BTreeSet,
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};
use tokio::sync::Mutex;
use tonic::{Status, metadata::MetadataMap};

/// The directory is read at most this often, however many ask: that is how soon a token counts, or counts no more.
const FRESH: Duration = Duration::from_secs(1);
/// What a token file may hold at most; a longer one is no token.
const MAX_BYTES: u64 = 64 * 1024;

/// Knows nodes by bearer tokens in a directory: a file named after the node holds the node's token, and only its owner may read
/// it. Tokens come and go with their files.
#[derive(Debug)]
pub struct NodeTokens {
    dir: PathBuf,
    /// For how long what was read is believed.
    fresh: Duration,
    known: Mutex<Known>,
}

/// What the directory held.
#[derive(Debug, Default)]
struct Known {
    /// The node of each token, by the token's digest; none for a token that several nodes have: which one asks, it does not
    /// tell. Digests are compared instead of tokens: how long that takes says nothing about the token.
    nodes: FxHashMap<Vec<u8>, Option<String>>,
    /// What is wrong with the files, so that it is said once.
    complaints: BTreeSet<String>,
    read: Option<Instant>,
}

impl NodeTokens {
    /// The tokens in `dir`.
    pub fn new(dir: PathBuf) -> Self {
        Self::with_freshness(dir, FRESH)
    }

    fn with_freshness(dir: PathBuf, fresh: Duration) -> Self {
        Self { dir, fresh, known: Mutex::default() }
    }

    /// The node that has this token.
    async fn node_of(&self, token: &str) -> io::Result<Option<String>> {
        // Whoever comes while it is being read waits for that, and does not read it again.
        let mut known = self.known.lock().await;
        if known.read.is_none_or(|read| read.elapsed() >= self.fresh) {
            let dir = self.dir.clone();
            // Files are read, and many streams wait on this thread.
            let read = tokio::task::spawn_blocking(move || read(&dir)).await;
            let read = read.unwrap_or_else(|interrupted| Err(interrupted.into()))?;
            for complaint in read.complaints.difference(&known.complaints) {
                tracing::error!("{complaint}");
            }
            *known = Known { read: Some(Instant::now()), ..read };
        }
        Ok(known.nodes.get(digest(&SHA256, token.as_bytes()).as_ref()).cloned().flatten())
    }
}

/// Reads all tokens. What is wrong with one file is no reason to turn the other nodes away.
fn read(dir: &Path) -> io::Result<Known> {
    let mut known = Known::default();
    let mut first: FxHashMap<Vec<u8>, String> = FxHashMap::default();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let (Ok(node), path) = (entry.file_name().into_string(), entry.path()) else { continue };
        if node.starts_with('.') || !path.is_file() {
            continue;
        }
        let token = match token(&path) {
            Ok(token) => token,
            Err(why) => {
                known.complaints.insert(format!("the token of node {node} does not count: {why}"));
                continue;
            }
        };
        if token.is_empty() {
            continue;
        }
        let digest = digest(&SHA256, token.as_bytes()).as_ref().to_vec();
        if let Some(other) = first.insert(digest.clone(), node.clone()) {
            let pair = BTreeSet::from([&other, &node]);
            known.complaints.insert(format!(
                "these nodes have the same token, and are turned away; give each its own: {pair:?}"
            ));
            known.nodes.insert(digest, None);
        } else {
            known.nodes.insert(digest, Some(node));
        }
    }
    Ok(known)
}

/// The token in a file, or why it cannot be one.
fn token(path: &Path) -> Result<String, String> {
    let file = path.display();
    let unreadable = |error: io::Error| format!("cannot read {file}: {error}");
    let metadata = fs::metadata(path).map_err(unreadable)?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(format!(
            "{file} has mode {mode:04o}, so that others than its owner can use it; run `chmod 600 {file}`, and make a \
             new token if somebody may have read it"
        ));
    }
    if metadata.len() > MAX_BYTES {
        return Err(format!("{file} is longer than {MAX_BYTES} bytes; write the token alone into it"));
    }
    Ok(fs::read_to_string(path).map_err(unreadable)?.trim().to_owned())
}

#[tonic::async_trait]
impl Authenticator for NodeTokens {
    async fn authenticate(&self, metadata: &MetadataMap) -> Result<Caller, Status> {
        match self.node_of(bearer(metadata)?).await {
            Ok(Some(node)) => Ok(Caller { node }),
            Ok(None) => Err(Status::unauthenticated("no node has this token")),
            Err(error) => {
                tracing::error!(dir = %self.dir.display(), %error, "the nodes' tokens cannot be read");
                Err(Status::unavailable("control cannot read the nodes' tokens"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(token: &str) -> MetadataMap {
        let mut metadata = MetadataMap::new();
        metadata.insert("authorization", format!("Bearer {token}").parse().unwrap());
        metadata
    }

    fn write(dir: &Path, node: &str, token: impl AsRef<[u8]>) {
        fs::write(dir.join(node), token).unwrap();
        fs::set_permissions(dir.join(node), fs::Permissions::from_mode(0o600)).unwrap();
    }

    #[tokio::test]
    async fn a_token_names_its_node_and_nothing_else_does() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "n1", "one\n");
        write(dir.path(), "n2", "two");
        write(dir.path(), "empty", "\n");
        write(dir.path(), "a-broken", b"\xff\xfe");
        let tokens = NodeTokens::with_freshness(dir.path().to_owned(), Duration::ZERO);
        assert_eq!(tokens.authenticate(&request("one")).await.unwrap().node, "n1");
        assert_eq!(tokens.authenticate(&request("two")).await.unwrap().node, "n2");
        for bad in [request("three"), request(""), MetadataMap::new()] {
            let status = tokens.authenticate(&bad).await.unwrap_err();
            assert_eq!(status.code(), tonic::Code::Unauthenticated);
        }
        write(dir.path(), "n3", "two\n");
        assert!(tokens.authenticate(&request("two")).await.is_err(), "nobody can tell n2 from n3");
        write(dir.path(), "n4", "two\n");
        assert!(tokens.authenticate(&request("two")).await.is_err(), "nor of three");
        fs::remove_file(dir.path().join("n3")).unwrap();
        fs::remove_file(dir.path().join("n4")).unwrap();
        assert_eq!(tokens.authenticate(&request("two")).await.unwrap().node, "n2");
        fs::remove_file(dir.path().join("n1")).unwrap();
        assert!(tokens.authenticate(&request("one")).await.is_err(), "a token goes with its file");
    }

    #[tokio::test]
    async fn a_file_that_others_can_read_holds_no_token() {
        let dir = tempfile::tempdir().unwrap();
        let tokens = NodeTokens::with_freshness(dir.path().to_owned(), Duration::ZERO);
        write(dir.path(), "n1", "one");
        write(dir.path(), "n2", "two");
        for mode in [0o640, 0o604, 0o620, 0o666] {
            fs::set_permissions(dir.path().join("n1"), fs::Permissions::from_mode(mode)).unwrap();
            assert!(tokens.authenticate(&request("one")).await.is_err(), "{mode:o}");
            let complaints = read(dir.path()).unwrap().complaints;
            let path = dir.path().join("n1").display().to_string();
            let names = |c: &String| c.contains(&format!("chmod 600 {path}")) && c.contains("node n1");
            assert!(complaints.iter().any(names), "{complaints:?}");
        }
        assert_eq!(tokens.authenticate(&request("two")).await.unwrap().node, "n2");
        fs::set_permissions(dir.path().join("n1"), fs::Permissions::from_mode(0o400)).unwrap();
        assert_eq!(tokens.authenticate(&request("one")).await.unwrap().node, "n1");
    }

    #[tokio::test]
    async fn strangers_do_not_make_it_read_the_directory_each_time() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "n1", "one");
        let tokens = NodeTokens::with_freshness(dir.path().to_owned(), Duration::from_secs(3600));
        assert!(tokens.authenticate(&request("guess")).await.is_err());
        // Nobody looks: it is gone, and not missed.
        fs::remove_dir_all(dir.path()).unwrap();
        for _ in 0..3 {
            assert!(tokens.authenticate(&request("guess")).await.is_err());
            assert_eq!(tokens.authenticate(&request("one")).await.unwrap().node, "n1");
        }
    }
}
