//! A node's side of discovery and certificates: the code that agents run.

use crate::stage::LONG;
use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::runtime::Runtime;
use weft_io::discovery::{
    ClientConfig, ControlEndpoint, DiscoveryCa, NodeIdentity, Sink, StatusHandle, ca::IssueError,
    client::Client,
};
use weft_io::tls::csr;
use weft_model::{Delta, Identity, Snapshot, SnapshotStore};

/// A snapshot, and the deltas that made it.
#[derive(Default)]
pub struct Recorder {
    store: SnapshotStore,
    told: Mutex<Vec<Delta>>,
}

impl Sink for Recorder {
    fn apply(&self, deltas: Vec<Delta>) {
        self.told.lock().unwrap().extend(deltas.iter().cloned());
        self.store.apply(deltas);
    }

    fn snapshot(&self) -> Arc<Snapshot> {
        self.store.load()
    }
}

/// One node.
pub struct Node {
    sink: Arc<Recorder>,
    status: StatusHandle,
    endpoint: ControlEndpoint,
    runtime: Runtime,
}

pub fn endpoint(address: SocketAddr, root: PathBuf, token: PathBuf) -> ControlEndpoint {
    ControlEndpoint {
        url: format!("https://{address}"),
        root: Some(root),
        server_name: None,
        token: Some(token),
        plaintext: false,
        cluster: "Kubernetes".into(),
    }
}

impl Node {
    pub fn connect(name: &str, address: SocketAddr, root: PathBuf, token: PathBuf) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (sink, endpoint) = (Arc::new(Recorder::default()), endpoint(address, root, token));
        let identity = NodeIdentity {
            ip: "127.0.0.1".parse().unwrap(),
            pod: format!("weft-agent-{name}"),
            namespace: "weft-system".into(),
            // It may say what it likes: control does not listen.
            node: "elsewhere".into(),
        };
        let config = ClientConfig {
            endpoint: endpoint.clone(),
            node: identity,
            cache: None,
            backoff: (Duration::from_millis(50), Duration::from_millis(500)),
            node_pods: false,
            ready: None,
        };
        let (client, status) = Client::new(config, sink.clone());
        runtime.spawn(client.run());
        Self { sink, status, endpoint, runtime }
    }

    /// Waits until what it knows is so.
    pub fn until(&self, what: &str, holds: impl Fn(&Snapshot) -> bool) {
        let end = std::time::Instant::now() + LONG;
        while !holds(&self.sink.store.load()) {
            let (status, now) = (self.status.borrow().clone(), self.sink.store.load());
            let workloads: Vec<_> = now.workloads().map(|w| (&w.name, &w.addresses, &w.policies)).collect();
            let policies: Vec<_> = now.policies().map(|p| &p.key).collect();
            let ended = std::time::Instant::now() > end;
            assert!(!ended, "never: {what}; {status:?}; it knows {workloads:?} and {policies:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn knows(&self, pod: &str) -> bool {
        self.sink.store.load().workloads().any(|w| &*w.name == pod)
    }

    /// Waits until its connection is so.
    pub fn status(&mut self, what: &str, holds: impl FnMut(&weft_io::discovery::Status) -> bool) {
        let status = &mut self.status;
        let waited = self.runtime.block_on(async {
            tokio::time::timeout(LONG, status.wait_for(holds)).await.map(|s| s.map(drop))
        });
        waited.unwrap_or_else(|_| panic!("never: {what}; {:?}", self.status.borrow().last_error)).unwrap();
    }

    /// What it was told since the last time.
    pub fn told(&self) -> Vec<Delta> {
        std::mem::take(&mut self.sink.told.lock().unwrap())
    }

    /// Asks for a certificate.
    pub fn certificate(&self, account: &str) -> Result<Vec<String>, IssueError> {
        certificate(&self.runtime, self.endpoint.clone(), account)
    }
}

/// Asks for a certificate of an account in `shop`.
pub fn certificate(
    runtime: &Runtime,
    endpoint: ControlEndpoint,
    account: &str,
) -> Result<Vec<String>, IssueError> {
    let identity = Identity::new("cluster.local", "shop", account);
    let request = csr::request(&identity).unwrap();
    runtime.block_on(DiscoveryCa::new(endpoint, None).issue(&identity, &request.csr_pem))
}
