//! The delta ADS client of a node: it keeps a snapshot equal to what the control plane says, through lost connections,
//! bad resources and restarts.

mod backoff;
mod held;
mod keep;
mod session;
mod status;

use super::{cache::CacheFile, endpoint::ControlEndpoint};
use backoff::Backoff;
use held::Held;
use std::{
    net::IpAddr,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::sync::{Notify, watch};
use weft_model::{Delta, Snapshot, SnapshotStore};

pub use status::{Status, StatusHandle, Synced};

/// What one discovery client needs to know.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// Where the control plane is.
    pub endpoint: ControlEndpoint,
    /// Who asks.
    pub node: NodeIdentity,
    /// Where the last state is kept.
    pub cache: Option<CacheFile>,
    /// The shortest and the longest wait between two attempts to connect.
    pub backoff: (Duration, Duration),
    /// Whether to ask for the pods of the node, too.
    pub node_pods: bool,
    /// Whether the agent is ready, where control is to be told.
    pub ready: Option<watch::Receiver<bool>>,
}

/// Who asks: the node proxy itself.
#[derive(Clone, Debug)]
pub struct NodeIdentity {
    /// The proxy's own address.
    pub ip: IpAddr,
    /// The proxy's pod; any unique name outside Kubernetes.
    pub pod: String,
    /// The pod's namespace.
    pub namespace: String,
    /// The node that it serves.
    pub node: String,
}

impl NodeIdentity {
    /// The id in the form that Istio's control plane parses. It tells kinds of proxies apart by the first part, and
    /// knows node proxies as `ztunnel`.
    pub fn id(&self) -> String {
        let Self { ip, pod, namespace, .. } = self;
        format!("ztunnel~{ip}~{pod}.{namespace}~{namespace}.svc.cluster.local")
    }
}

/// Where deltas go.
pub trait Sink: Send + Sync {
    /// Applies the deltas of one response, in one step.
    fn apply(&self, deltas: Vec<Delta>);
    /// The state that the deltas made: what the cache keeps.
    fn snapshot(&self) -> Arc<Snapshot>;
}

impl Sink for SnapshotStore {
    fn apply(&self, deltas: Vec<Delta>) {
        SnapshotStore::apply(self, deltas);
    }

    fn snapshot(&self) -> Arc<Snapshot> {
        self.load()
    }
}

/// The client. Dropping the future of [`Client::run`] ends it.
pub struct Client {
    config: ClientConfig,
    sink: Arc<dyn Sink>,
    held: Arc<Mutex<Held>>,
    /// Announces to the writer of the cache that there is something new.
    changed: Arc<Notify>,
    status: watch::Sender<Status>,
}

impl Client {
    /// A client that fills `sink`. The handle tells how it fares.
    pub fn new(config: ClientConfig, sink: Arc<dyn Sink>) -> (Self, StatusHandle) {
        let (status, handle) = watch::channel(Status::new(&config.endpoint.url, config.node_pods));
        let client = Self { config, sink, held: Arc::default(), changed: Arc::default(), status };
        (client, handle)
    }

    /// Applies the state that the last run left on disk. Call it before [`Client::run`] where the first connections
    /// must not wait for the control plane.
    pub fn restore(&self) {
        let Some(cache) = &self.config.cache else { return };
        match cache.load() {
            Ok(None) => tracing::debug!(path = %cache.path.display(), "no cached state"),
            Ok(Some(cached)) => {
                let (count, node_pods) = (cached.deltas.len(), cached.node_pods);
                held::lock(&self.held).restore(&cached);
                self.sink.apply(cached.deltas);
                self.status.send_modify(|s| s.restore(count, node_pods));
                tracing::info!(resources = count, "serving the cached state until control answers");
            }
            Err(error) => tracing::warn!(%error, "cached state not used"),
        }
    }

    /// Connects and keeps the sink current, for ever.
    pub async fn run(self) {
        let keeper = self.config.cache.clone().map(|cache| {
            let (sink, held, changed) = (self.sink.clone(), self.held.clone(), self.changed.clone());
            keep::keep(cache, self.config.node_pods, sink, held, changed, self.status.clone())
        });
        tokio::select! {
            () = self.stay_connected() => {}
            () = async { match keeper { Some(k) => k.await, None => std::future::pending().await } } => {}
        }
    }

    async fn stay_connected(&self) {
        let mut backoff = Backoff::new(self.config.backoff);
        loop {
            let Err(error) = self.session().await;
            if self.status.borrow().synced_now() {
                backoff.reset();
            }
            let wait = backoff.next();
            tracing::warn!(%error, retry_in = ?wait, "discovery connection lost");
            self.status.send_modify(|s| s.lost(error.to_string()));
            tokio::time::sleep(wait).await;
        }
    }
}

#[cfg(test)]
mod tests;
