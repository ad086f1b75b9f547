//! Tunnel connections of one worker thread, shared by the streams that may share them.

use super::{
    client::{Connect, Established, Sender, establish},
    error::HboneError,
    settings::Settings,
    stream::Stream,
    usage::{HeldTunnel, Usage},
};
use crate::tls::WorkloadCert;
use rustc_hash::FxHashMap;
use std::{
    cell::{Cell, RefCell},
    future::Future,
    io,
    net::{IpAddr, SocketAddr},
    rc::{Rc, Weak},
    sync::Arc,
};
use tokio::{
    net::TcpStream,
    sync::watch,
    time::{Instant, sleep_until, timeout},
};
use weft_model::{Identity, Reason};

/// How often a request that the peer surely did not touch is tried on another connection.
const ATTEMPTS: usize = 3;

/// Streams share a connection only where all of this is the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PoolKey {
    /// Who asks.
    pub source: Identity,
    /// Who may answer; in a stable order, so that equal sets are equal keys.
    pub expect: Arc<[Identity]>,
    /// Where.
    pub addr: SocketAddr,
    /// From which address.
    pub source_ip: IpAddr,
}

/// Tunnel connections by [`PoolKey`]; belongs to one thread and needs a `LocalSet`.
#[derive(Clone)]
pub struct Pool {
    shared: Rc<Shared>,
}

struct Shared {
    settings: Settings,
    usage: Usage,
    slots: RefCell<FxHashMap<PoolKey, Slot>>,
}

type Outcome = Option<Result<(), HboneError>>;

#[derive(Default)]
struct Slot {
    connections: Vec<Rc<Pooled>>,
    connecting: Option<watch::Receiver<Outcome>>,
}

struct Pooled {
    sender: Sender,
    cert: Arc<WorkloadCert>,
    streams: Cell<usize>,
    idle_since: Cell<Instant>,
}

impl Pooled {
    fn last_used(&self) -> Instant {
        if self.streams.get() == 0 { self.idle_since.get() } else { Instant::now() }
    }
}

/// A stream's place on a connection.
struct Lease(Rc<Pooled>);

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.streams.set(self.0.streams.get() - 1);
        self.0.idle_since.set(Instant::now());
    }
}

impl Pool {
    /// An empty pool.
    pub fn new(settings: Settings) -> Self {
        Self::counting(settings, Usage::default())
    }

    /// An empty pool that counts in `usage`.
    pub fn counting(settings: Settings, usage: Usage) -> Self {
        Self { shared: Rc::new(Shared { settings, usage, slots: RefCell::default() }) }
    }

    /// Opens a stream on a connection for `key`, making one with `dial` where there is none with room.
    ///
    /// A connection is made once for all who wait for it, and goes on being made when they stop waiting. One that began
    /// with an older certificate than `cert` takes no new streams; those on it live on.
    pub async fn open<D, F>(
        &self,
        key: &PoolKey,
        cert: &Arc<WorkloadCert>,
        dial: D,
        connect: &Connect,
    ) -> Result<Stream, HboneError>
    where
        D: Fn() -> F + Clone + 'static,
        F: Future<Output = io::Result<TcpStream>> + 'static,
    {
        let mut attempt = 1;
        loop {
            let lease = self.lease(key, cert, &dial).await?;
            let connection = lease.0.clone();
            let opening = connection.sender.open(connect, Box::new(lease));
            let answer = timeout(self.shared.settings.answer_timeout, opening).await;
            let opened = answer.unwrap_or(Err(HboneError::AnswerTimeout { addr: key.addr }));
            match opened {
                Err(error) if error.may_retry() && attempt < ATTEMPTS => {
                    self.shared.retire(key, &connection);
                    attempt += 1;
                }
                Err(error) if error.ends_connection() => {
                    self.shared.retire(key, &connection);
                    return Err(error);
                }
                opened => return opened,
            }
        }
    }

    /// How many connections take new streams.
    pub fn connections(&self) -> usize {
        self.shared.slots.borrow().values().map(|slot| slot.connections.len()).sum()
    }

    /// How many streams are open on them.
    pub fn streams(&self) -> usize {
        let slots = self.shared.slots.borrow();
        slots.values().flat_map(|slot| &slot.connections).map(|c| c.streams.get()).sum()
    }

    /// Takes no more streams on any connection from `sources`, so that idle ones end; streams that are open live on.
    pub fn forget(&self, sources: &[IpAddr]) {
        self.shared.slots.borrow_mut().retain(|key, _| !sources.contains(&key.source_ip));
    }

    async fn lease<D, F>(
        &self,
        key: &PoolKey,
        cert: &Arc<WorkloadCert>,
        dial: &D,
    ) -> Result<Lease, HboneError>
    where
        D: Fn() -> F + Clone + 'static,
        F: Future<Output = io::Result<TcpStream>> + 'static,
    {
        loop {
            let mut connecting = match self.shared.lease(key, cert) {
                Ok(lease) => return Ok(lease),
                Err(Some(connecting)) => connecting,
                Err(None) => self.connect(key, cert, dial.clone()),
            };
            let outcome = connecting.wait_for(Option::is_some).await;
            // A sender that is gone without an outcome: the LocalSet is going down.
            let outcome = outcome.map_err(|_| HboneError::PoolClosed)?;
            if let Some(Err(error)) = &*outcome {
                return Err(error.clone());
            }
        }
    }

    fn connect<D, F>(&self, key: &PoolKey, cert: &Arc<WorkloadCert>, dial: D) -> watch::Receiver<Outcome>
    where
        D: Fn() -> F + 'static,
        F: Future<Output = io::Result<TcpStream>> + 'static,
    {
        let (done, connecting) = watch::channel(None);
        let mut slots = self.shared.slots.borrow_mut();
        slots.entry(key.clone()).or_default().connecting = Some(connecting.clone());
        drop(slots);
        let (shared, key, cert) = (Rc::downgrade(&self.shared), key.clone(), cert.clone());
        let settings = self.shared.settings.clone();
        tokio::task::spawn_local(async move {
            let made = async {
                let dialled = dial().await;
                let tcp = dialled.map_err(|e| HboneError::Connect { addr: key.addr, source: e.into() })?;
                establish(tcp, key.addr, &cert, &key.expect, &settings).await
            };
            let made = timeout(settings.connect_timeout, made).await;
            let made = made.unwrap_or(Err(HboneError::ConnectTimeout { addr: key.addr }));
            let Some(pool) = shared.upgrade() else { return };
            match made {
                Ok(established) => {
                    let connection = pool.insert(&key, cert, &established);
                    done.send_replace(Some(Ok(())));
                    let _held = HeldTunnel::new(pool.usage.tunnels.clone());
                    drop(pool);
                    serve_pooled(established, connection, shared, key, settings).await;
                }
                Err(error) => {
                    if error.reason() == Reason::TlsFailure {
                        pool.usage.tls_failures.inc();
                    }
                    pool.failed(&key);
                    done.send_replace(Some(Err(error)));
                }
            }
        });
        connecting
    }
}

/// Carries a pooled connection until it ends, and takes it out of the pool when it ends or has idled too long.
async fn serve_pooled(
    established: Established,
    connection: Weak<Pooled>,
    pool: Weak<Shared>,
    key: PoolKey,
    settings: Settings,
) {
    // Only the pool and the streams may keep the connection open: the last of them gone, it closes by itself.
    let Established { sender, driver } = established;
    drop(sender);
    let retire = || {
        if let (Some(pool), Some(connection)) = (pool.upgrade(), connection.upgrade()) {
            pool.retire(&key, &connection);
        }
    };
    let idle = async {
        while let Some(since) = connection.upgrade().map(|c| c.last_used()) {
            if since.elapsed() >= settings.idle_timeout {
                break;
            }
            sleep_until(since + settings.idle_timeout).await;
        }
        retire();
        std::future::pending::<()>().await;
    };
    let streams = || connection.upgrade().map_or(0, |c| c.streams.get());
    tokio::select! {
        () = driver.run(streams) => {}
        () = idle => {}
    }
    retire();
}

impl Shared {
    /// A place on a connection with room, or else the connection in the making that may have some.
    fn lease(
        &self,
        key: &PoolKey,
        cert: &Arc<WorkloadCert>,
    ) -> Result<Lease, Option<watch::Receiver<Outcome>>> {
        let mut slots = self.slots.borrow_mut();
        let Some(slot) = slots.get_mut(key) else { return Err(None) };
        // Compared by age and not for equality: of two callers in the midst of a rotation neither evicts the other's.
        slot.connections.retain(|connection| connection.cert.not_after() >= cert.not_after());
        let limit = self.settings.max_outgoing_streams;
        for connection in &slot.connections {
            let streams = connection.streams.get();
            if streams < limit.min(connection.sender.peer_limit()) {
                connection.streams.set(streams + 1);
                return Ok(Lease(connection.clone()));
            }
        }
        Err(slot.connecting.clone())
    }

    fn insert(&self, key: &PoolKey, cert: Arc<WorkloadCert>, made: &Established) -> Weak<Pooled> {
        let connection = Rc::new(Pooled {
            sender: made.sender.clone(),
            cert,
            streams: Cell::new(0),
            idle_since: Cell::new(Instant::now()),
        });
        let weak = Rc::downgrade(&connection);
        let mut slots = self.slots.borrow_mut();
        let slot = slots.entry(key.clone()).or_default();
        slot.connections.push(connection);
        slot.connecting = None;
        weak
    }

    fn failed(&self, key: &PoolKey) {
        let mut slots = self.slots.borrow_mut();
        if let Some(slot) = slots.get_mut(key) {
            slot.connecting = None;
            if slot.connections.is_empty() {
                slots.remove(key);
            }
        }
    }

    fn retire(&self, key: &PoolKey, connection: &Rc<Pooled>) {
        let mut slots = self.slots.borrow_mut();
        if let Some(slot) = slots.get_mut(key) {
            slot.connections.retain(|other| !Rc::ptr_eq(other, connection));
            if slot.connections.is_empty() && slot.connecting.is_none() {
                slots.remove(key);
            }
        }
    }
}
