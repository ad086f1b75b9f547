//! The local socket of the command line: only the agent's own user may open it.

use super::{Admin, grpc::Service, proto::admin_server::AdminServer};
use crate::lanes::{Complaint, remedy};
use futures::{Stream, stream::unfold};
use std::{
    fs, io,
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::net::{UnixListener, UnixStream};
use tonic::transport::Server;

/// How long to wait after `accept` failed: it fails for want of files, which does not end at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why the socket is not served.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// There is a file that is no socket.
    #[error("{path}: is not a socket; remove it, or give another --admin-socket", path = .0.display())]
    NotASocket(PathBuf),
    /// It cannot be made.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Serving ended.
    #[error("the admin socket: {0}")]
    Serve(#[from] tonic::transport::Error),
}

/// Serves `admin` at `path` until the future is dropped. The newest agent answers: what another left there, or still
/// serves while it hands over, is replaced.
pub async fn serve(path: &Path, admin: Arc<Admin>) -> Result<(), SocketError> {
    let (listener, _remove) = bind(path)?;
    let service = AdminServer::new(Service::new(admin));
    Server::builder().add_service(service).serve_with_incoming(incoming(listener)).await?;
    Ok(())
}

/// The connections to the socket. One that cannot be accepted waits: to the server an error would be the end.
fn incoming(listener: UnixListener) -> impl Stream<Item = io::Result<UnixStream>> {
    unfold((listener, Complaint::default()), |(listener, complaint)| async move {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => return Some((Ok(stream), (listener, complaint))),
                Err(error) => {
                    if complaint.due().is_some() {
                        tracing::warn!(%error, "the command line waits: {}", remedy(&error));
                    }
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    })
}

fn bind(path: &Path) -> Result<(UnixListener, Placed), SocketError> {
    let failed = |source| SocketError::Io { path: path.to_owned(), source };
    if fs::symlink_metadata(path).is_ok_and(|found| !found.file_type().is_socket()) {
        return Err(SocketError::NotASocket(path.to_owned()));
    }
    // It is made under another name, so that nobody connects before its permissions are set, and a hand-over between
    // two agents leaves no moment without a socket.
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}", std::process::id()));
    let fresh = path.with_file_name(name);
    // Only a process of this number that died half-way can have left one.
    let _ = fs::remove_file(&fresh);
    let listener = UnixListener::bind(&fresh).map_err(failed)?;
    let place = || {
        fs::set_permissions(&fresh, fs::Permissions::from_mode(0o600))?;
        let inode = fs::metadata(&fresh)?.ino();
        fs::rename(&fresh, path)?;
        Ok(Placed { path: path.to_owned(), inode })
    };
    match place() {
        Ok(placed) => Ok((listener, placed)),
        Err(source) => {
            // What is left of the attempt; the error that matters is the one above.
            let _ = fs::remove_file(&fresh);
            Err(failed(source))
        }
    }
}

/// The socket in its place; removed when serving ends, unless another agent's stands there by then.
struct Placed {
    path: PathBuf,
    inode: u64,
}

impl Drop for Placed {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|m| m.ino() == self.inode) {
            // It may go at the same moment, with its directory.
            let _ = fs::remove_file(&self.path);
        }
    }
}
