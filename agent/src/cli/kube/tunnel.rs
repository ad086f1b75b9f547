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
    let said = complaint.trim().trim_start_matches("weft-agent: ");
    let failed = status.filter(|s| s.status.as_deref() != Some("Success"))?;
    Some(if said.is_empty() { failed.message.unwrap_or_default() } else { said.to_owned() })
}
