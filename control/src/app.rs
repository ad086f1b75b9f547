//! Wires the control plane together: the one place where its parts meet.

mod cluster;
mod fold;
mod listen;

use crate::{
    config::{CaPlace, Callers, Config, Objects},
    issue::{Authority, AuthorityError, Issuer, Placement, keep_renewing},
    lead::Elector,
    metrics::Metrics,
    monitor::Monitor,
    serve::{
        Discovery, NodeTokens, Resources, TokenReviews,
        agents::Agents,
        auth::{Authenticator, Counted},
        tls,
    },
    source::{
        Source, SourceError,
        directory::DirectorySource,
        kube::{ConnectError, KubeSource, Served},
    },
    status::Reporter,
    taint::{KubeNodes, keep_relieving},
};
pub use cluster::rotate_root;
use fold::Fold;
use serde::Serialize;
use std::{io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};
use tokio::{net::TcpListener, sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;
use weft_index::{Finding, Index};
use weft_io::discovery::proto::{
    auth::istio_certificate_service_server::IstioCertificateServiceServer,
    discovery::aggregated_discovery_service_server::AggregatedDiscoveryServiceServer,
};
use weft_io::told::file_mend;

/// How long requests that are under way may take once the process is told to go.
const DRAIN: Duration = Duration::from_secs(5);

/// Why the control plane does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No authority.
    #[error("certificate authority: {0}")]
    Authority(#[from] AuthorityError),
    /// No TLS.
    #[error(transparent)]
    Tls(#[from] tls::TlsError),
    /// No source.
    #[error("manifests: {0}")]
    Source(#[from] SourceError),
    /// No client of the Kubernetes API.
    #[error(transparent)]
    Kube(#[from] ConnectError),
    /// A port cannot be had.
    #[error("cannot listen on {address}: {cause}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write {path}: {cause}{mend}", path = path.display(), mend = file_mend(cause))]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
}

/// Where the control plane answers.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Bound {
    /// Nodes.
    pub discovery: SocketAddr,
    /// Metrics and readiness.
    pub monitoring: SocketAddr,
}

/// A control plane that runs until it is stopped; dropping it ends it at once.
pub struct Running {
    /// Where it answers.
    pub bound: Bound,
    /// What is wrong with the objects now.
    pub findings: watch::Receiver<Arc<Vec<Finding>>>,
    /// The nodes that are connected.
    pub agents: Arc<Agents>,
    is_ready: watch::Receiver<bool>,
    shutdown: CancellationToken,
    tasks: JoinSet<()>,
    ended: CancellationToken,
}

impl Running {
    /// Resolves when everything was read once and nodes are served.
    pub async fn ready(&self) {
        // The channel ends with the process's parts, and then nothing more is to be waited for.
        let _ = self.is_ready.clone().wait_for(|ready| *ready).await;
    }

    /// Resolves when a part ended that should not have.
    pub async fn ended(&self) {
        self.ended.cancelled().await;
    }

    /// Ends streams in peace, and waits for what is under way.
    pub async fn stop(mut self) {
        self.shutdown.cancel();
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(DRAIN, all).await.is_err() {
            tracing::warn!("not everything ended within {DRAIN:?}");
        }
    }
}

/// Starts everything; the ports are bound when this returns. Where the authority is in a Secret it waits for that, and answers
/// on the monitoring port meanwhile.
pub async fn start(config: Config) -> Result<Running, StartError> {
    start_from(config, None).await
}

/// Like [`start`], with a source of objects other than the one that `config` names.
pub async fn start_from(
    config: Config,
    source: Option<Box<dyn Source + Send>>,
) -> Result<Running, StartError> {
    let discovery = bind(config.listen).await?;
    let monitoring = bind(config.monitoring).await?;
    let bound = Bound {
        discovery: local(&discovery, config.listen)?,
        monitoring: local(&monitoring, config.monitoring)?,
    };
    let (shutdown, ended) = (CancellationToken::new(), CancellationToken::new());
    let (agents, metrics) = (Arc::new(Agents::default()), Arc::new(Metrics::default()));
    let (ready, is_ready) = watch::channel(false);
    let (told, findings) = watch::channel(Arc::default());
    let mut tasks = JoinSet::new();
    let monitor = Monitor {
        metrics: metrics.clone(),
        agents: agents.clone(),
        ready: is_ready.clone(),
        findings: findings.clone(),
    };
    tasks.spawn(monitor.serve(monitoring, shutdown.clone()));
    tracing::info!(address = %bound.monitoring, "the monitoring port answers");

    let mut api = cluster::Api::default();
    let (lead, leads) = watch::channel(false);
    if config.objects == Objects::Kube || config.ca == CaPlace::Secret {
        let elector = Elector::new(api.client().await?, &config.namespace, config.replica.clone());
        tasks.spawn(elector.run(lead, shutdown.clone()));
    }
    // What is wrong with the authority; of one in a directory the log says it.
    let mut troubles = watch::channel(Vec::new()).1;
    let authority = match &config.ca {
        CaPlace::Directory(dir) => {
            let authority = Arc::new(Authority::open(dir, config.lifetimes, &config.index.trust_domain)?);
            tasks.spawn(keep_renewing(authority.clone(), shutdown.clone()));
            authority
        }
        CaPlace::Secret => {
            let keeper = api.keeper(&config).await?;
            troubles = keeper.findings();
            let authority = keeper.open().await;
            tasks.spawn(keeper.keep(authority.clone(), leads.clone(), shutdown.clone()));
            authority
        }
    };
    tracing::info!(until = %authority.not_after(), "certificate authority ready");
    let tls = tls::server_config(authority.clone(), &config.names)?;
    let authenticator: Arc<dyn Authenticator> = match &config.callers {
        Callers::Tokens(dir) => Arc::new(NodeTokens::new(dir.clone())),
        Callers::Review => Arc::new(TokenReviews::new(api.client().await?, &config.namespace)),
    };
    let authenticator: Arc<dyn Authenticator> =
        Arc::new(Counted { inner: authenticator, metrics: metrics.clone() });
    let served = Arc::new(Served::default());
    let source: Box<dyn Source + Send> = match (source, &config.objects) {
        (Some(source), _) => source,
        (None, Objects::Directory(dir)) => Box::new(DirectorySource::new(dir.clone())),
        (None, Objects::Kube) => Box::new(KubeSource::new(api.client().await?, served.clone())),
    };
    if config.objects == Objects::Kube {
        let reporter = Reporter::new(api.client().await?, served, config.replica.clone());
        tasks.spawn(reporter.run(findings.clone(), (leads, is_ready.clone()), shutdown.clone()));
        let nodes = Arc::new(KubeNodes::new(api.client().await?));
        tasks.spawn(keep_relieving(agents.clone(), nodes, shutdown.clone()));
    }
    let batches = source.start()?;
    let (resources, placement) = (Arc::new(Resources::default()), Arc::new(Placement::default()));

    let fold = Fold {
        index: Index::new(config.index.clone()),
        resources: resources.clone(),
        placement: placement.clone(),
        metrics: metrics.clone(),
        troubles,
        findings: told,
        ready,
    };
    let xds = AggregatedDiscoveryServiceServer::new(Discovery {
        resources,
        authenticator: authenticator.clone(),
        agents: agents.clone(),
        metrics: metrics.clone(),
        shutdown: shutdown.clone(),
        ready: is_ready.clone(),
    })
    // A node that comes back names everything that it holds.
    .max_decoding_message_size(64 << 20);
    let trust_domain = config.index.trust_domain.clone();
    let issuer = Issuer { authority: authority.clone(), placement, authenticator, trust_domain, metrics };
    let ca = IstioCertificateServiceServer::new(issuer);
    let server = tonic::transport::Server::builder()
        .tcp_nodelay(true)
        .http2_keepalive_interval(Some(Duration::from_secs(10)))
        .http2_keepalive_timeout(Some(Duration::from_secs(10)))
        .add_service(xds)
        .add_service(ca);
    let (connections, accepting) = listen::incoming(discovery, tls, shutdown.clone());
    let serving = server.serve_with_incoming_shutdown(connections, shutdown.clone().cancelled_owned());

    tasks.spawn(accepting);
    let guard = |shutdown: CancellationToken, ended: CancellationToken| {
        move || {
            if !shutdown.is_cancelled() {
                ended.cancel();
            }
        }
    };
    let over = guard(shutdown.clone(), ended.clone());
    tasks.spawn(async move {
        if let Err(error) = serving.await {
            tracing::error!(%error, "the port for nodes failed");
        }
        over();
    });
    let over = guard(shutdown.clone(), ended.clone());
    let stop = shutdown.clone();
    tasks.spawn(async move {
        fold.run(batches, stop).await;
        over();
    });

    if let Some(path) = &config.root {
        write(path, &authority.root_pem())?;
    }
    if let Some(path) = &config.bound {
        let text = serde_json::to_string(&bound)
            .map_err(|e| StartError::Write { path: path.clone(), cause: e.into() })?;
        write(path, &text)?;
    }
    tracing::info!(discovery = %bound.discovery, monitoring = %bound.monitoring, "control plane started");
    Ok(Running { bound, findings, agents, is_ready, shutdown, tasks, ended })
}

async fn bind(address: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).await.map_err(|cause| StartError::Listen { address, cause })
}

fn local(listener: &TcpListener, address: SocketAddr) -> Result<SocketAddr, StartError> {
    listener.local_addr().map_err(|cause| StartError::Listen { address, cause })
}

/// Writes a file that others wait for: it appears whole, or not at all. One that says it already is left: a full disk is no
/// reason not to start again.
fn write(path: &PathBuf, text: &str) -> Result<(), StartError> {
    if std::fs::read_to_string(path).is_ok_and(|old| old == text) {
        return Ok(());
    }
    let fresh = path.with_extension("new");
    let written = std::fs::write(&fresh, text).and_then(|()| std::fs::rename(&fresh, path));
    written.map_err(|cause| StartError::Write { path: path.clone(), cause })
}
