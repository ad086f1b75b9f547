//! The admin interface of an agent, carried by the streams of a process in its container.

use super::{agents::Cluster, error};
use crate::cli::client::{self, Client};
use futures::FutureExt;
use hyper_util::rt::TokioIo;
use kube::api::{AttachParams, AttachedProcess};
use std::{io, sync::Mutex, time::Duration};
use tokio::io::{AsyncReadExt, copy_bidirectional, duplex, join};
use tokio::task::JoinHandle;
use tonic::transport::{Endpoint, Uri};
use tower::service_fn;

/// On its way between the API server's stream and HTTP/2.
const BUFFER: usize = 256 << 10;
/// What the process says on its standard error, at most.
const COMPLAINT: u64 = 4 << 10;
/// What a command prints, at most.
const PRINTED: u64 = 1 << 20;
/// How long a process that has failed may take to say why.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// An agent that can be asked.
pub struct Tunnel {
    /// Its admin interface.
    pub client: Client,
    /// Ends with what the process complained of, if it did.
    process: JoinHandle<Option<String>>,
}

impl Tunnel {
    /// Opens one to the agent in `pod`.
    pub async fn open(cluster: &Cluster, pod: &str) -> Result<Self, String> {
        let streams = AttachParams {
            container: Some("agent".to_owned()),
            max_stdin_buf_size: Some(BUFFER),
            max_stdout_buf_size: Some(BUFFER),
            ..AttachParams::default().stdin(true).stdout(true).stderr(true)
        };
        let process = cluster.pods().exec(pod, ["weft-agent", "pipe"], &streams).await;
        let process =
            process.map_err(|e| format!("cannot run a command in the pod {pod}: {}", error::why(&e)))?;
        let (ours, theirs) = duplex(BUFFER);
        let process = tokio::spawn(carry(process, theirs));
        // There is one stream, for one connection.
        let ours = Mutex::new(Some(ours));
        let connector = service_fn(move |_: Uri| {
            let stream = ours.lock().ok().and_then(|mut stream| stream.take());
            async move { stream.map(TokioIo::new).ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected)) }
        });
        let endpoint = Endpoint::from_static("http://agent").connect_with_connector(connector).await;
        match endpoint {
            Ok(channel) => Ok(Self { client: client::over(channel), process }),
            Err(error) => Err(last_words(process).await.unwrap_or_else(|| weft_io::told::whole(&error))),
        }
    }

    /// Why a call failed: what the process said, or else what the call says.
    pub async fn why(self, status: &tonic::Status) -> String {
        // An agent's own answer.
        if status.code() != tonic::Code::Unavailable && status.code() != tonic::Code::Unknown {
            return status.message().to_owned();
        }
        drop(self.client);
        last_words(self.process).await.unwrap_or_else(|| status.message().to_owned())
    }
}

/// Runs a command in the container of an agent to its end; what it printed, or what it complained of.
pub async fn run(cluster: &Cluster, pod: &str, command: &[&str]) -> Result<String, String> {
    let streams = AttachParams { container: Some("agent".to_owned()), ..AttachParams::default() };
    let streams = streams.stdout(true).stderr(true);
    let process = cluster.pods().exec(pod, command.iter().copied(), &streams).await;
    let mut process =
        process.map_err(|e| format!("cannot run a command in the pod {pod}: {}", error::why(&e)))?;
    let (Some(stdout), Some(stderr), Some(status)) =
        (process.stdout(), process.stderr(), process.take_status())
    else {
        return Err("the API server gave no streams".to_owned());
    };
    let (mut said, mut complaint) = (String::new(), String::new());
    let (mut stdout, mut stderr) = (stdout.take(PRINTED), stderr.take(COMPLAINT));
    // However the reading ends, the status says what became of the command.
    let _ = tokio::join!(stdout.read_to_string(&mut said), stderr.read_to_string(&mut complaint));
    match status.await {
        Some(status) if status.status.as_deref() == Some("Success") => Ok(said),
        status => Err(words(&complaint, status.and_then(|s| s.message))),
    }
}

/// What a process complained of, or else what is said of it.
fn words(complaint: &str, message: Option<String>) -> String {
    match complaint.trim().trim_start_matches("weft-agent: ") {
        "" => message.unwrap_or_else(|| "the connection broke".to_owned()),
        said => said.to_owned(),
    }
}

async fn last_words(process: JoinHandle<Option<String>>) -> Option<String> {
    tokio::time::timeout(LAST_WORDS, process).await.ok()?.ok()?
}

/// Carries bytes between the process and our end, and listens to its complaints.
async fn carry(mut process: AttachedProcess, mut ours: tokio::io::DuplexStream) -> Option<String> {
    let (stdin, stdout, stderr) = (process.stdin()?, process.stdout()?, process.stderr()?);
    let status = process.take_status();
    let mut complaint = String::new();
    {
        let mut stderr = stderr.take(COMPLAINT);
        let mut theirs = join(stdout, stdin);
        // However the copying ends, the status or the complaint says why.
        let (_, _) = tokio::join!(
            copy_bidirectional(&mut theirs, &mut ours).map(|_| ()),
            stderr.read_to_string(&mut complaint)
        );
    }
    let status = match status {
        Some(status) => status.await,
        None => None,
    };
    let failed = status.filter(|s| s.status.as_deref() != Some("Success"))?;
    Some(words(&complaint, failed.message))
}
