//! Where objects come from. There is one source in a process: a directory of manifests, or a Kubernetes API.

pub mod directory;
pub mod kube;

use std::{collections::BTreeMap, path::PathBuf};
use tokio::sync::mpsc;
use weft_api::ObjectKey;
use weft_index::{Change, Finding};

/// What a source says at once. The first batch holds everything there is; later ones, what changed since. A source that would
/// hold too much at once says the first one in parts.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// Changes to objects.
    pub changes: Vec<Change>,
    /// Everything that the source cannot read now.
    pub findings: Vec<Finding>,
    /// This is a part of the first batch, and not the last: nobody is to be told of it yet.
    pub more: bool,
    /// Where objects come from, for findings about them; only for sources that have such places.
    pub places: BTreeMap<ObjectKey, String>,
}

/// Why a source cannot start.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The directory is not there, or not one.
    #[error("{0} is not a directory that can be read")]
    NotADirectory(PathBuf),
    /// Its thread cannot be started.
    #[error("cannot start the reader of manifests: {0}")]
    Thread(#[source] std::io::Error),
}

/// A source of objects.
pub trait Source {
    /// Starts to read. The source ends when the receiver is dropped.
    fn start(self: Box<Self>) -> Result<mpsc::Receiver<Batch>, SourceError>;
}
