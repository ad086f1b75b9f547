//! Why the worker cannot run.

use crate::kernel::KernelError;
use std::{io, net::SocketAddr, path::PathBuf};
use weft_io::told::file_mend;

/// Why the worker cannot start.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// No signal handlers.
    #[error("cannot listen for signals: {0}")]
    Signals(io::Error),
    /// A directory.
    #[error("cannot make the directory {path}: {source}{mend}", path = path.display(), mend = file_mend(source))]
    Directory {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file.
    #[error("cannot write {path}: {source}{mend}", path = path.display(), mend = file_mend(source))]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// One of the agent's own ports.
    #[error(
        "cannot listen at {at}: {source}; another process may have the port, see --admin, --metrics, --readiness"
    )]
    Listen {
        /// Where.
        at: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The kernel's side.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// The node's processes.
    #[error("the pods of this node cannot be looked for: {0}")]
    Pods(io::Error),
    /// No threads.
    #[error("cannot start a thread: {0}")]
    Threads(io::Error),
    /// The keeper.
    #[error("the keeper of the listeners does not answer: {0}")]
    Keeper(io::Error),
}
