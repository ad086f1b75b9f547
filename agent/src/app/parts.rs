//! What the worker is made of, from its configuration.

use super::AppError;
use crate::{
    config::{AccessLogSettings, Config, Pods},
    lanes::{Admission, Shared},
};
use std::{fs::OpenOptions, os::unix::fs::OpenOptionsExt, sync::Arc, time::Duration};
use tokio::sync::watch;
use weft_io::{
    discovery::{ClientConfig, ControlEndpoint, DiscoveryCa, NodeIdentity, cache::CacheFile},
    hbone::Settings,
    telemetry::{self, AccessLog, AccessLogConfig, Telemetry},
    tls::{CertManager, CertOptions},
};
use weft_model::{SnapshotStore, snapshot::Viewpoint};

/// The last state of a mesh of 100,000 workloads is below this many bytes.
const CACHE_LIMIT: u64 = 256 << 20;
/// The shortest and the longest wait between two attempts to reach control.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

/// What the lanes share.
pub fn shared(config: &Config) -> Result<Arc<Shared>, AppError> {
    let log = access_log(&config.access_log)?;
    let telemetry = Telemetry::new(
        &telemetry::Config { workers: config.lanes.get(), ..telemetry::Config::default() },
        log,
    );
    let viewpoint = Viewpoint {
        node: Some(config.node.as_str().into()),
        cluster: Some(config.cluster.as_str().into()),
        network: Some(config.network.as_str().into()),
    };
    let ca = Arc::new(DiscoveryCa::new(endpoint(config), None));
    Ok(Arc::new(Shared {
        store: Arc::new(SnapshotStore::new(viewpoint)),
        certs: CertManager::new(ca, CertOptions::default()),
        telemetry,
        admission: Admission::new(config.max_connections),
        tunnels: Settings::default(),
        peers: config.explicit.as_ref().map(|e| e.peers.clone()).unwrap_or_default(),
    }))
}

fn access_log(settings: &AccessLogSettings) -> Result<AccessLog, AppError> {
    let AccessLogSettings { mode: select, format, file } = settings;
    let config = AccessLogConfig { select: *select, format: *format, ..AccessLogConfig::default() };
    let log = match file {
        // Appending, so that an agent that takes over goes on in the same file, and a rotation may truncate it.
        Some(path) => {
            let opened = OpenOptions::new().create(true).append(true).mode(0o640).open(path);
            let opened = opened.map_err(|source| AppError::Write { path: path.clone(), source })?;
            AccessLog::new(config, opened)
        }
        None => AccessLog::new(config, std::io::stdout()),
    };
    log.map_err(AppError::Threads)
}

fn endpoint(config: &Config) -> ControlEndpoint {
    ControlEndpoint {
        url: config.control.address.clone(),
        root: Some(config.control.root.clone()),
        server_name: config.control.server_name.clone(),
        token: Some(config.control.token.clone()),
        plaintext: false,
        cluster: config.cluster.clone(),
    }
}

/// How the state of the mesh is asked for.
pub fn discovery(config: &Config, ready: watch::Receiver<bool>) -> ClientConfig {
    let in_kube = config.pods == Pods::Kube;
    ClientConfig {
        endpoint: endpoint(config),
        node: NodeIdentity {
            ip: config.node_ip,
            pod: format!("weft-agent-{}", config.node),
            namespace: config.namespace.clone(),
            node: config.node.clone(),
        },
        cache: Some(CacheFile { path: config.cache_dir.join("state"), limit: CACHE_LIMIT }),
        backoff: BACKOFF,
        node_pods: in_kube,
        ready: in_kube.then_some(ready),
    }
}
