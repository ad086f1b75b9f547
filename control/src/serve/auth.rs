//! Who is asking.

use aws_lc_rs::digest::{SHA256, digest};
use std::{
    io,
    path::{Path, PathBuf},
};
use tonic::{Status, metadata::MetadataMap};

/// A node proxy that said who it is and could prove it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The node that it serves.
    pub node: String,
}

/// Tells from a request's metadata who asks.
#[tonic::async_trait]
pub trait Authenticator: Send + Sync + 'static {
    /// The caller, or why nobody knows it.
    async fn authenticate(&self, metadata: &MetadataMap) -> Result<Caller, Status>;
}

/// Knows nodes by bearer tokens in a directory: a file named after the node holds the node's token. For the mode without
/// Kubernetes. The directory is read for each request, so tokens come and go with their files.
#[derive(Debug)]
pub struct NodeTokens {
    dir: PathBuf,
}

impl NodeTokens {
    /// The tokens in `dir`.
    pub fn new(dir: PathBuf) -> Self {
        Self { dir }
    }
}

/// The node whose file in `dir` holds `token`. A token that several nodes have belongs to none of them: which one asks, it
/// does not tell.
fn node_of(dir: &Path, token: &str) -> io::Result<Option<String>> {
    // Digests are compared instead of tokens: how long that takes says nothing about the token.
    let presented = digest(&SHA256, token.as_bytes());
    let mut nodes = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        if name.starts_with('.') || !entry.path().is_file() {
            continue;
        }
        let known = match std::fs::read_to_string(entry.path()) {
            Ok(known) => known,
            // One node's file is no reason to turn the others away.
            Err(error) => {
                tracing::error!(file = %entry.path().display(), %error, "a node's token cannot be read");
                continue;
            }
        };
        let known = known.trim();
        if !known.is_empty() && digest(&SHA256, known.as_bytes()).as_ref() == presented.as_ref() {
            nodes.push(name);
        }
    }
    if nodes.len() > 1 {
        tracing::error!(?nodes, "these nodes have the same token, and are turned away; give each its own");
        return Ok(None);
    }
    Ok(nodes.pop())
}

#[tonic::async_trait]
impl Authenticator for NodeTokens {
    async fn authenticate(&self, metadata: &MetadataMap) -> Result<Caller, Status> {
        let header = metadata.get("authorization").and_then(|v| v.to_str().ok());
        let token = header
            .and_then(|h| h.strip_prefix("Bearer "))
            .ok_or_else(|| Status::unauthenticated("the request carries no bearer token"))?;
        let (dir, token) = (self.dir.clone(), token.to_owned());
        // Files are read, and many streams wait on this thread.
        let known = tokio::task::spawn_blocking(move || node_of(&dir, &token)).await;
        match known.unwrap_or_else(|interrupted| Err(interrupted.into())) {
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

    fn bearer(token: &str) -> MetadataMap {
        let mut metadata = MetadataMap::new();
        metadata.insert("authorization", format!("Bearer {token}").parse().unwrap());
        metadata
    }

    #[tokio::test]
    async fn a_token_names_its_node_and_nothing_else_does() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("n1"), "one\n").unwrap();
        std::fs::write(dir.path().join("n2"), "two").unwrap();
        std::fs::write(dir.path().join("empty"), "\n").unwrap();
        std::fs::write(dir.path().join("a-broken"), b"\xff\xfe").unwrap();
        let tokens = NodeTokens::new(dir.path().to_owned());
        assert_eq!(tokens.authenticate(&bearer("one")).await.unwrap().node, "n1");
        assert_eq!(tokens.authenticate(&bearer("two")).await.unwrap().node, "n2");
        for bad in [bearer("three"), bearer(""), MetadataMap::new()] {
            let status = tokens.authenticate(&bad).await.unwrap_err();
            assert_eq!(status.code(), tonic::Code::Unauthenticated);
        }
        std::fs::write(dir.path().join("n3"), "two\n").unwrap();
        assert!(tokens.authenticate(&bearer("two")).await.is_err(), "nobody can tell n2 from n3");
        std::fs::remove_file(dir.path().join("n3")).unwrap();
        assert_eq!(tokens.authenticate(&bearer("two")).await.unwrap().node, "n2");
        std::fs::remove_file(dir.path().join("n1")).unwrap();
        assert!(tokens.authenticate(&bearer("one")).await.is_err(), "a token goes with its file");
    }
}
