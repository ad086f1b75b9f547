//! Lanes: the threads that carry connections, one for each core.
//!
//! A connection stays on the lane that accepted it, with its tunnel and its relay: nothing on its way waits for another
//! thread. Each lane has its own socket of every listener, so the kernel spreads new connections over them.

mod accept;
mod admission;
mod closing;
mod complaint;
mod shortage;
mod spin;

pub use accept::{Accepted, reset};
pub use admission::{Admission, Permit};
pub use closing::Closing;
pub use complaint::Complaint;
pub use shortage::remedy;

use crate::{
    config::Peer,
    kernel::Arrivals,
    pods::{Pod, listeners::Role},
};
use std::{collections::BTreeMap, io, net::IpAddr, rc::Rc, sync::Arc, thread::JoinHandle, time::Duration};
use tokio::{
    sync::mpsc,
    task::{LocalSet, spawn_local},
    time::sleep,
};
use tokio_util::sync::CancellationToken;
use weft_io::{
    hbone::{Pool, Settings, Usage},
    lifecycle::drain::Watcher,
    telemetry::{Direction, Telemetry, Worker as Records},
    tls::CertManager,
};
use weft_model::SnapshotStore;

/// Listeners that may wait for a busy lane; whoever announces more waits.
const QUEUE: usize = 64;
/// The time for cut connections to send their resets when the agent exits.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// What all lanes share. Nothing in it is locked while a connection is carried.
pub struct Shared {
    /// The mesh's state.
    pub store: Arc<SnapshotStore>,
    /// The workloads' certificates.
    pub certs: CertManager,
    /// What connections are recorded in.
    pub telemetry: Arc<Telemetry>,
    /// How many connections there may be.
    pub admission: Admission,
    /// The numbers of tunnels.
    pub tunnels: Settings,
    /// Who is reached elsewhere than at its own address; nobody where traffic is captured.
    pub peers: BTreeMap<IpAddr, Peer>,
}

/// One lane, as its connections see it.
pub struct Lane {
    /// What it shares with the others.
    pub shared: Arc<Shared>,
    /// Its tunnels to other workloads.
    pub pool: Pool,
    /// Its connections' records.
    pub records: Records,
    /// What the kernel knows of captured connections; none where nothing is captured.
    pub arrivals: Option<Arrivals>,
    /// About tunnels and streams of others that were refused.
    pub refusals: Complaint,
    /// About what there was too little of.
    pub shortages: Complaint,
}

/// A listener for a lane.
pub struct Serve {
    /// Whose it is.
    pub pod: Arc<Pod>,
    /// What arrives there.
    pub role: Role,
    /// The socket, non-blocking.
    pub listener: std::net::TcpListener,
}

/// What a lane is told.
enum Order {
    /// Accept there.
    Serve(Serve),
    /// Keep no tunnel from these addresses for later use.
    Forget(Arc<[IpAddr]>),
}

/// The lanes, as the rest of the agent sees them.
pub struct Lanes {
    queues: Vec<mpsc::Sender<Order>>,
    threads: Vec<JoinHandle<()>>,
    over: CancellationToken,
}

impl Lanes {
    /// Starts one lane for each of `arrivals`.
    pub fn start(arrivals: Vec<Option<Arrivals>>, shared: &Arc<Shared>, drain: &Watcher) -> io::Result<Self> {
        let (mut queues, mut threads) = (Vec::new(), Vec::new());
        let over = CancellationToken::new();
        for (index, arrivals) in arrivals.into_iter().enumerate() {
            let (tx, rx) = mpsc::channel(QUEUE);
            let (shared, drain, over) = (shared.clone(), drain.clone(), over.clone());
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .on_thread_park(spin::before_sleep)
                .build()?;
            let thread = std::thread::Builder::new().name(format!("lane-{index}"));
            threads.push(thread.spawn(move || {
                let local = LocalSet::new();
                let pool = Pool::counting(shared.tunnels.clone(), usage(&shared));
                let records = shared.telemetry.worker(index);
                let (refusals, shortages) = <_>::default();
                let lane = Rc::new(Lane { shared, pool, records, arrivals, refusals, shortages });
                local.block_on(&runtime, async {
                    spin::begin().await;
                    run(lane, rx, drain).await;
                });
                // What is left are connections that end, and tunnels that end with the last of them.
                runtime.block_on(async {
                    tokio::select! {
                        () = local => {}
                        () = async { over.cancelled().await; sleep(LAST_WORDS).await } => {}
                    }
                });
            })?);
            queues.push(tx);
        }
        Ok(Self { queues, threads, over })
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.queues.len()
    }

    /// Hands a listener to lane `index`, counted round. The lanes are gone only when the agent exits.
    pub async fn serve(&self, index: usize, serve: Serve) {
        let _ = self.queues[index % self.queues.len()].send(Order::Serve(serve)).await;
    }

    /// Ends the idle tunnels from `sources`: they would keep the network namespace of a pod that is gone.
    pub async fn forget(&self, sources: &[IpAddr]) {
        let sources: Arc<[IpAddr]> = sources.into();
        for queue in &self.queues {
            let _ = queue.send(Order::Forget(sources.clone())).await;
        }
    }

    /// Waits for the lanes to end, once the drain is over: what is still open by then was told to end.
    pub fn join(self) {
        self.over.cancel();
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a lane ended in a panic");
            }
        }
    }
}

/// Where the lanes' pools count.
fn usage(shared: &Shared) -> Usage {
    let metrics = &shared.telemetry.metrics;
    Usage { tunnels: metrics.tunnels_held(Direction::Outbound), tls_failures: metrics.tls_failures("client") }
}

/// Serves listeners until the drain begins.
async fn run(lane: Rc<Lane>, mut queue: mpsc::Receiver<Order>, mut drain: Watcher) {
    loop {
        tokio::select! {
            biased;
            _ = drain.draining() => break,
            order = queue.recv() => match order {
                Some(Order::Serve(serve)) => {
                    spawn_local(accept::serve(lane.clone(), serve, drain.clone()));
                }
                Some(Order::Forget(sources)) => lane.pool.forget(&sources),
                None => break,
            },
        }
    }
}
