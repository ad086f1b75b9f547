//! The worker process, wired up: everything that is started, in the order in which it is needed.

mod endpoints;
mod error;
mod follow;
mod observe;
mod view;

pub use error::AppError;

use crate::{
    admin::Admin,
    config::Config,
    identity::ControlCa,
    keeper::KeeperClient,
    kernel::{Kernel, KernelConfig},
    lanes::{Admission, Lanes, Shared},
    pods::{DirectorySource, Enroller, listeners::ListenerName, source},
    state::State,
};
use follow::Follower;
use std::{
    collections::BTreeMap,
    fs,
    net::TcpListener,
    os::unix::fs::DirBuilderExt,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};
use tokio::sync::Notify;
use view::View;
use weft_io::{
    discovery::{ClientConfig, ControlEndpoint, DiscoveryCa, NodeIdentity, cache::CacheFile, client::Client},
    hbone::Settings,
    lifecycle::{
        drain::{self, Drained},
        ready::Ready,
        shutdown::Shutdown,
    },
    telemetry::{self, AccessLog, AccessLogConfig, Telemetry, trace::LogHandle},
    tls::{CertManager, CertOptions},
};
use weft_model::{SnapshotStore, snapshot::Viewpoint};

/// The last state of a mesh of 100,000 workloads is below this many bytes.
const CACHE_LIMIT: u64 = 256 << 20;
/// The shortest and the longest wait between two attempts to reach control.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

/// Runs the worker until it is told to go and has drained.
pub async fn run(config: Config, log: LogHandle, keeper: Arc<KeeperClient>) -> Result<(), AppError> {
    let mut shutdown = Shutdown::listen().map_err(AppError::Signals)?;
    for dir in [&config.state_dir, &config.cache_dir] {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
        made.map_err(|source| AppError::Directory { path: dir.clone(), source })?;
    }
    let mut kernel =
        Kernel::load(&KernelConfig { pin_dir: config.pin_dir.clone(), cgroup: config.cgroup.clone() })?;
    kernel.register_agent(std::process::id())?;
    let arrivals =
        (0..config.lanes.get()).map(|_| kernel.arrivals().map(Some)).collect::<Result<Vec<_>, _>>()?;

    let ready = Ready::new();
    let (signal, watcher) = drain::channel();
    let shared = shared(&config)?;
    let lanes = Lanes::start(arrivals, &shared, &watcher).map_err(AppError::Threads)?;
    drop(watcher);

    let changed = Arc::new(Notify::new());
    let state = Arc::new(State::new(shared.store.clone(), changed.clone()));
    let (client, status) = Client::new(discovery(&config), state);
    client.restore();

    let inherited = keeper.listeners().map_err(AppError::Keeper)?;
    let inherited: BTreeMap<ListenerName, TcpListener> =
        inherited.into_iter().filter_map(|(name, fd)| Some((name.parse().ok()?, fd.into()))).collect();
    let flows = kernel.flows()?;
    let kernel = Arc::new(Mutex::new(kernel));
    let enroller = Enroller::new(
        (config.node.clone(), config.network.as_str().into()),
        kernel.clone(),
        keeper.clone(),
        lanes,
        shared.certs.clone(),
        inherited,
    );
    let view = View {
        config: config.clone(),
        roster: enroller.roster.clone(),
        certs: shared.certs.clone(),
        status: status.clone(),
        kernel: kernel.clone(),
    };
    let pods = view.roster.local.clone();
    let admin = Admin {
        node: config.node.clone(),
        started: SystemTime::now(),
        snapshots: shared.store.clone(),
        telemetry: shared.telemetry.clone(),
        log,
        ready: ready.clone(),
        agent: Arc::new(view),
    };
    let mut follower = Follower {
        enroller,
        listed: source::follow(DirectorySource::new(config.pods.clone())),
        shared: shared.clone(),
        changed,
        status,
        ready: Some(ready.task("pods")),
        keeper: keeper.clone(),
        flows,
        wishes: keeper.wishes().map_err(AppError::Keeper)?,
    };
    let admin = Arc::new(admin);
    let mut endpoints = endpoints::start(&config, &admin)?;
    observe::start(&mut endpoints, &admin, &kernel, pods)?;
    let discovery = tokio::spawn(client.run());
    tokio::select! {
        cause = shutdown.requested() => tracing::info!(%cause, "draining"),
        ended = follower.run() => {
            ended?;
            tracing::info!("draining, as the keeper says");
        }
    }
    keeper.bye();
    // Whoever follows answers from here on.
    drop(endpoints);
    discovery.abort();
    if let Drained::Forced(left) = signal.drain(config.drain).await {
        tracing::warn!(connections = left, "the drain's time is over; what is left is cut");
    }
    follower.enroller.lanes.join();
    if let Err(error) = lock(&kernel).unregister_agent(std::process::id()) {
        tracing::warn!(%error, "the kernel does not forget this process");
    }
    tracing::info!("bye");
    Ok(())
}

/// Locks the kernel's side. A panic elsewhere leaves maps that the next reconcile puts right.
pub fn lock(kernel: &Mutex<Kernel>) -> std::sync::MutexGuard<'_, Kernel> {
    kernel.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn shared(config: &Config) -> Result<Arc<Shared>, AppError> {
    let log = AccessLog::new(AccessLogConfig::default(), std::io::stdout()).map_err(AppError::Threads)?;
    let telemetry = Telemetry::new(
        &telemetry::Config { workers: config.lanes.get(), ..telemetry::Config::default() },
        log,
    );
    let viewpoint = Viewpoint {
        node: Some(config.node.as_str().into()),
        cluster: Some(config.cluster.as_str().into()),
        network: Some(config.network.as_str().into()),
        locality: None,
    };
    let ca = Arc::new(ControlCa(DiscoveryCa::new(endpoint(config), None)));
    Ok(Arc::new(Shared {
        store: Arc::new(SnapshotStore::new(viewpoint)),
        certs: CertManager::new(ca, CertOptions::default()),
        telemetry,
        admission: Admission::new(config.max_connections),
        tunnels: Settings::default(),
    }))
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

fn discovery(config: &Config) -> ClientConfig {
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
    }
}
