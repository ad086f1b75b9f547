//! Reaching the agent that runs on this machine.

use crate::admin::proto::admin_client::AdminClient;
use std::{
    fs, io,
    os::unix::fs::FileTypeExt,
    path::{Path, PathBuf},
};
use tonic::transport::{Channel, Endpoint};

/// A connection to an agent.
pub type Client = AdminClient<Channel>;

/// A large mesh's list of workloads is a large message; the agent is trusted, it runs on this machine.
const MAX_MESSAGE: usize = 1 << 30;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// No agent's socket is there.
    #[error("no agent's socket in {dir}: is the agent running? Start it with `weft-agent run`, or give --socket PATH", dir = .0.display())]
    NoSocket(PathBuf),
    /// Several are.
    #[error("several agents run here ({nodes}): choose one with --node NAME", nodes = .0.join(", "))]
    Several(Vec<String>),
    /// It is there, but nobody answers.
    #[error("{socket}: {cause}; is the agent running?", socket = socket.display())]
    Unreachable {
        /// The socket.
        socket: PathBuf,
        /// Why.
        cause: String,
    },
    /// It is there, and may not be opened.
    #[error("{socket}: permission denied; run this as the user that the agent runs as (root, mostly)", socket = .0.display())]
    Forbidden(PathBuf),
    /// The agent refused.
    #[error("{}", .0.message())]
    Agent(#[from] tonic::Status),
    /// The output cannot be written.
    #[error("cannot print: {0}")]
    Output(#[from] io::Error),
    /// Something that the agent needs is missing.
    #[error("{0} of what the agent needs is missing or too old here: see the rows above")]
    Missing(usize),
    /// The agent answers, and is not ready.
    #[error("not ready, waiting for {}", .0.join(", "))]
    NotReady(Vec<String>),
    /// The pod is not there.
    #[error("{0}: no such pod on {1}; write NAMESPACE/NAME")]
    NoPod(String, &'static str),
    /// Nobody said that it is meant.
    #[error(
        "this resets {0} connections of {1}, whose applications have to connect again; say --yes if that is meant"
    )]
    NotMeantReset(usize, String),
    /// Nobody said that it is meant.
    #[error("this takes the mesh off {0}; say --yes if that is meant")]
    NotMeant(String),
    /// The node cannot be cleaned.
    #[error(transparent)]
    Uninstall(#[from] super::uninstall::UninstallError),
    /// A cluster's agents cannot be asked.
    #[cfg(feature = "kube")]
    #[error(transparent)]
    Kube(#[from] super::kube::KubeError),
    /// This binary was built without it.
    #[cfg(not(feature = "kube"))]
    #[error(
        "--kube: this weft-agent was built without the feature `kube`; build it with that, or ask inside the cluster: \
             kubectl exec -n weft-system ds/weft-agent -- weft-agent status"
    )]
    NoKube,
}

impl CliError {
    /// Whether the reader of the output went away (`| head`): nothing to complain about.
    pub fn is_broken_pipe(&self) -> bool {
        matches!(self, CliError::Output(e) if e.kind() == io::ErrorKind::BrokenPipe)
    }
}

/// Connects to the agent at `socket`, or to that of `node`, or to the only one below `sockets`.
pub async fn connect(socket: Option<&Path>, node: Option<&str>, sockets: &Path) -> Result<Client, CliError> {
    let socket = find(socket, node, sockets)?;
    // Looked at by hand first: the transport's own error does not tell these cases apart.
    if let Err(e) = tokio::net::UnixStream::connect(&socket).await {
        return Err(unreachable(socket, &e));
    }
    let unreachable =
        |e: tonic::transport::Error| CliError::Unreachable { socket: socket.clone(), cause: e.to_string() };
    let endpoint = Endpoint::from_shared(format!("unix:{}", socket.display())).map_err(unreachable)?;
    let channel = endpoint.connect().await.map_err(unreachable)?;
    Ok(over(channel))
}

/// The client of an agent at the end of `channel`.
pub fn over(channel: Channel) -> Client {
    AdminClient::new(channel).max_decoding_message_size(MAX_MESSAGE)
}

/// The socket that is given, or that of `node`, or the only one below `sockets`.
pub fn find(socket: Option<&Path>, node: Option<&str>, sockets: &Path) -> Result<PathBuf, CliError> {
    match (socket, node) {
        (Some(path), _) => Ok(path.to_owned()),
        (None, Some(node)) => Ok(sockets.join(node).join("admin.sock")),
        (None, None) => only_one(sockets),
    }
}

/// What it means that `socket` cannot be opened.
pub fn unreachable(socket: PathBuf, error: &io::Error) -> CliError {
    match error.kind() {
        io::ErrorKind::PermissionDenied => CliError::Forbidden(socket),
        _ => CliError::Unreachable { socket, cause: plain(error) },
    }
}

fn plain(e: &io::Error) -> String {
    match e.kind() {
        io::ErrorKind::NotFound => "there is no such socket".to_owned(),
        io::ErrorKind::ConnectionRefused => "nobody answers".to_owned(),
        _ => e.to_string(),
    }
}

fn only_one(sockets: &Path) -> Result<PathBuf, CliError> {
    let is_socket = |p: &PathBuf| fs::metadata(p).is_ok_and(|m| m.file_type().is_socket());
    let mut found: Vec<PathBuf> = match fs::read_dir(sockets) {
        Ok(entries) => {
            entries.filter_map(|e| Some(e.ok()?.path().join("admin.sock"))).filter(is_socket).collect()
        }
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
            return Err(CliError::Forbidden(sockets.to_owned()));
        }
        Err(_) => Vec::new(),
    };
    match found.len() {
        0 => Err(CliError::NoSocket(sockets.to_owned())),
        1 => Ok(found.swap_remove(0)),
        _ => {
            let node = |p: &PathBuf| Some(p.parent()?.file_name()?.to_string_lossy().into_owned());
            let mut nodes: Vec<_> = found.iter().filter_map(node).collect();
            nodes.sort();
            Err(CliError::Several(nodes))
        }
    }
}
