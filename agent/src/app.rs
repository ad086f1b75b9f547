//! The worker process, wired up: everything that is started, in the order in which it is needed.

mod endpoints;
mod error;
mod explicit;
mod follow;
mod guard;
mod observe;
mod parts;
mod view;

pub use error::AppError;

use crate::{
    admin::Admin,
    config::{Config, Pods},
    drains::{Cut, Drains},
    keeper::KeeperClient,
    kernel::{
        Kernel, KernelConfig, KernelError, find_cgroup,
        strangers::{judge, strangers},
        text,
    },
    lanes::{Lanes, Shared},
    pods::{
        DirectorySource, Enroller, KubeSource,
        listeners::ListenerName,
        older::Notes,
        roster::Roster,
        source::{self, kube::NodePaths},
    },
    state::{NodePods, State},
    vault,
};
use explicit::Explicit;
use follow::Follower;
use guard::{GuardPost, GuardView};
use std::{
    collections::BTreeMap,
    fs,
    net::TcpListener,
    os::unix::fs::DirBuilderExt,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};
use tokio::sync::{Notify, watch};
use view::View;
use weft_io::{
    discovery::{StatusHandle, client::Client},
    lifecycle::{
        drain::{self, Drained, Watcher},
        ready::Ready,
        shutdown::Shutdown,
    },
    telemetry::{Direction, trace::LogHandle},
};

/// What both modes are built on.
struct Base {
    config: Config,
    keeper: Arc<KeeperClient>,
    ready: Ready,
    shared: Arc<Shared>,
    /// Rings when the snapshot has changed.
    changed: Arc<Notify>,
    status: StatusHandle,
    /// The pods that control says are on this node.
    node_pods: watch::Receiver<NodePods>,
}

/// How pods' traffic reaches the agent.
enum Mode {
    /// The kernel captures it.
    Captured(Box<Follower>),
    /// Applications are pointed at the agent.
    Explicit(Box<Explicit>),
}

/// Runs the worker until it is told to go and has drained.
pub async fn run(config: Config, log: LogHandle, keeper: Arc<KeeperClient>) -> Result<(), AppError> {
    let mut shutdown = Shutdown::listen().map_err(AppError::Signals)?;
    for dir in [&config.state_dir, &config.cache_dir] {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
        made.map_err(|source| AppError::Directory { path: dir.clone(), source })?;
    }
    let (ready, shared, changed) = (Ready::new(), parts::shared(&config)?, Arc::new(Notify::new()));
    let state = Arc::new(State::new(shared.store.clone(), changed.clone()));
    let node_pods = state.node_pods();
    let (told_ready, is_ready) = watch::channel(false);
    let (client, status) = Client::new(parts::discovery(&config, is_ready), state);
    client.restore();
    let (signal, watcher) = drain::channel();
    let base = Base { config, keeper, ready, shared, changed, status, node_pods };
    let mut mode = match &base.config.explicit {
        Some(_) => Mode::Explicit(Box::new(Explicit::start(&base, &watcher)?)),
        None => Mode::Captured(Box::new(capture(&base, &watcher)?)),
    };
    drop(watcher);
    let ready = base.ready.clone();
    tokio::spawn(async move {
        ready.wait().await;
        told_ready.send_replace(true);
    });
    let (roster, kernel) = mode.shown();
    let guard = mode.guard(&base);
    let admin = Arc::new(admin(&base, log, (roster.clone(), kernel.clone(), guard)));
    let mut endpoints = endpoints::start(&base.config, &admin)?;
    observe::start(&mut endpoints, &admin, kernel.as_deref(), roster.local.clone())?;
    endpoints.spawn(forget_the_start(base.ready.clone()));
    let discovery = tokio::spawn(client.run());
    tokio::select! {
        cause = shutdown.requested() => tracing::info!(%cause, "draining"),
        ended = mode.run() => {
            ended?;
            tracing::info!("draining, as the keeper says");
        }
    }
    base.keeper.bye();
    // Whoever follows answers from here on, reads the kernel's events, and writes its maps.
    drop(endpoints);
    if let Some(kernel) = &kernel {
        lock(kernel).retire();
    }
    discovery.abort();
    if let Drained::Forced(_) = signal.drain(base.config.drain).await {
        base.shared.telemetry.connections.close_drained();
    }
    mode.into_lanes().join();
    tell_drained(&base);
    if let Some(kernel) = kernel
        && let Err(error) = forget(&mut lock(&kernel))
    {
        tracing::warn!(%error, "the kernel does not forget this process");
    }
    tracing::info!("bye");
    Ok(())
}

/// Tells how many connections the end of the drain has cut: in the log, and to the agents that come.
fn tell_drained(base: &Base) {
    let cut = |direction| base.shared.telemetry.cut_by_drain(direction);
    let cut = Cut { outbound: cut(Direction::Outbound), inbound: cut(Direction::Inbound) };
    let Cut { outbound, inbound } = cut;
    match outbound + inbound {
        0 => tracing::info!(outbound, inbound, "the drain is over; every connection has ended by itself"),
        _ => tracing::warn!(
            outbound,
            inbound,
            "the drain's time is over; the connections that were left are cut"
        ),
    }
    if let Err(error) = Drains::new(&base.config.state_dir).add(cut) {
        tracing::error!(%error, "the agents after this one cannot tell what its drain has cut");
    }
}

/// Has the kernel forget that this process is an agent.
fn forget(kernel: &mut Kernel) -> Result<(), KernelError> {
    let own = kernel.own_pid()?;
    kernel.unregister_agent(own)
}

/// Lets go of the pages of the program that only the start needed, once it is over.
async fn forget_the_start(ready: Ready) {
    /// What follows readiness at once still belongs to it.
    const AFTER: Duration = Duration::from_secs(3);
    ready.wait().await;
    tokio::time::sleep(AFTER).await;
    match text::let_go() {
        Ok(bytes) => tracing::debug!(bytes, "let go of the program's pages"),
        Err(error) => tracing::debug!(%error, "cannot let go of the program's pages"),
    }
}

/// Locks the kernel's side. A panic elsewhere leaves maps that the next reconcile puts right.
pub fn lock(kernel: &Mutex<Kernel>) -> std::sync::MutexGuard<'_, Kernel> {
    kernel.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl Mode {
    async fn run(&mut self) -> Result<(), AppError> {
        match self {
            Mode::Captured(follower) => follower.run().await,
            Mode::Explicit(explicit) => explicit.run().await,
        }
    }

    /// What admin shows of it.
    fn shown(&self) -> (Arc<Roster>, Option<Arc<Mutex<Kernel>>>) {
        match self {
            Mode::Captured(follower) => {
                (follower.enroller.roster.clone(), Some(follower.enroller.kernel.clone()))
            }
            Mode::Explicit(explicit) => (explicit.roster.clone(), None),
        }
    }

    /// What admin shows of the guard.
    fn guard(&self, base: &Base) -> Option<GuardView> {
        match self {
            Mode::Captured(follower) => Some(follower.guard.as_ref()?.view(base.node_pods.clone())),
            Mode::Explicit(_) => None,
        }
    }

    fn into_lanes(self) -> Lanes {
        match self {
            Mode::Captured(follower) => follower.enroller.lanes,
            Mode::Explicit(explicit) => explicit.lanes,
        }
    }
}

/// Sets up what is captured: the kernel's maps, the lanes, and what enrols pods.
fn capture(base: &Base, drain: &Watcher) -> Result<Follower, AppError> {
    let config = &base.config;
    let mut kernel = Kernel::load(&KernelConfig {
        pin_dir: config.pin_dir.clone(),
        cgroup: config.cgroup.clone(),
        max_addresses: None,
        proc: config.proc.clone(),
        mount_bpffs: config.pods != Pods::Kube,
    })?;
    warn_of_strangers(config);
    let own = kernel.own_pid()?;
    kernel.register_agent(own)?;
    let arrivals = (0..config.lanes.get()).map(|_| kernel.arrivals().map(Some));
    let lanes = Lanes::start(arrivals.collect::<Result<_, _>>()?, &base.shared, drain);
    let lanes = lanes.map_err(AppError::Threads)?;
    let inherited = base.keeper.listeners().map_err(AppError::Keeper)?;
    let kept = kernel.vault()?;
    vault::restore(&kept, &base.shared.certs);
    let inherited: BTreeMap<ListenerName, TcpListener> =
        inherited.into_iter().filter_map(|(name, fd)| Some((name.parse().ok()?, fd.into()))).collect();
    let kept = vault::follow(base.shared.certs.clone(), kept);
    let flows = kernel.flows()?;
    let enroller = Enroller::new(
        (config.node.clone(), config.network.as_str().into(), config.proc.clone()),
        (config.older, Notes::new(&config.state_dir)),
        Arc::new(Mutex::new(kernel)),
        base.keeper.clone(),
        lanes,
        base.shared.certs.clone(),
        inherited,
    );
    let (listed, guard) = match &config.pods {
        Pods::Listed(path) => (source::follow(DirectorySource::new(path.clone())), None),
        Pods::Kube => {
            let paths = node_paths(config)?;
            let (pods, mut status) = (base.node_pods.clone(), base.status.clone());
            let known = async move {
                // The sender lives as long as the process.
                let _ = status.wait_for(|status| status.has_node_pods()).await;
            };
            let source = KubeSource::new(&config.node, paths.clone(), pods, Box::pin(known))
                .map_err(AppError::Pods)?;
            (source::follow(source), Some(GuardPost::new(paths, config.guard)))
        }
    };
    Ok(Follower {
        enroller,
        listed,
        guard,
        shared: base.shared.clone(),
        changed: base.changed.clone(),
        status: base.status.clone(),
        attached: false,
        ready: Some(base.ready.task("pods")),
        kept,
        keeper: base.keeper.clone(),
        flows,
        wishes: base.keeper.wishes().map_err(AppError::Keeper)?,
        connected: <_>::default(),
        beside: <_>::default(),
    })
}

/// Says at the start what may get in the way.
fn warn_of_strangers(config: &Config) {
    let paths = config.cgroup.clone().map_or_else(find_cgroup, Ok).map_err(|error| error.to_string());
    match paths.and_then(|cgroup| strangers(&cgroup).map_err(|error| error.to_string())) {
        Ok(found) => {
            if let Some((found, mend)) = judge(&found) {
                tracing::warn!(found, mend, "programs of others see connections as well");
            }
        }
        Err(error) => {
            tracing::debug!(error, "cannot tell whether programs of others see connections as well")
        }
    }
}

fn node_paths(config: &Config) -> Result<NodePaths, AppError> {
    let cgroup = match &config.cgroup {
        Some(path) => path.clone(),
        None => find_cgroup()?,
    };
    Ok(NodePaths { proc: config.proc.clone(), cgroup, pods: config.pods_cgroup.clone() })
}

type Shown = (Arc<Roster>, Option<Arc<Mutex<Kernel>>>, Option<GuardView>);

fn admin(base: &Base, log: LogHandle, (roster, kernel, guard): Shown) -> Admin {
    let view = View {
        config: base.config.clone(),
        roster,
        notes: Notes::new(&base.config.state_dir),
        snapshots: base.shared.store.clone(),
        certs: base.shared.certs.clone(),
        status: base.status.clone(),
        kernel,
        guard,
        drains: Drains::new(&base.config.state_dir),
    };
    Admin {
        node: base.config.node.clone(),
        started: SystemTime::now(),
        snapshots: base.shared.store.clone(),
        telemetry: base.shared.telemetry.clone(),
        log,
        ready: base.ready.clone(),
        agent: Arc::new(view),
    }
}
