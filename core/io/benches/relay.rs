//! What a tunnel costs, over loopback: bare TCP, a pair of plain rustls relays, and a pair of ours, alternating.
//!
//! Each proxy is one thread, as a worker of the agent is. CPU is that of both proxies together. Run with
//! `cargo bench -p weft-io --bench relay [-- SECONDS [PATH…]]`.

use anyhow::{Context, Result, bail};
use async_trait::async_trait;
use rcgen::{BasicConstraints, CertificateParams, CertificateSigningRequestParams, IsCa, Issuer, KeyPair};
use std::{
    cell::Cell,
    convert::Infallible,
    future::Future,
    net::SocketAddr,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional_with_sizes},
    net::{TcpListener, TcpStream},
    task::{LocalSet, spawn_local},
};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use weft_io::{
    hbone::{Incoming, Pool, PoolKey, Settings, client::Connect, serve},
    lifecycle::drain,
    relay::{Counters, tunnel},
    tls::{CaClient, CaError, CertManager, CertOptions, WorkloadCert},
};
use weft_model::Identity;

/// Where a path begins, and the CPU time of its proxies in microseconds.
#[derive(Clone)]
struct Entry {
    addr: SocketAddr,
    cpu: Arc<[AtomicU64; 2]>,
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1).filter(|a| a != "--bench");
    let seconds = arguments.next().map_or(Ok(2.0), |s| s.parse()).context("SECONDS is a number")?;
    let chosen: Vec<String> = arguments.collect();
    let length = Duration::from_secs_f64(seconds);
    let (web, db) = certificates()?;
    let app = application()?;
    let idle = Arc::new([AtomicU64::new(0), AtomicU64::new(0)]);
    let paths = [
        ("bare", Entry { addr: app, cpu: idle }),
        ("rustls", rustls_pair(app, &web, &db)?),
        ("tunnel", tunnel_pair(app, web, db)?),
    ];
    for round in 1..=3 {
        for (name, entry) in &paths {
            if chosen.is_empty() || chosen.iter().any(|c| c == name) {
                println!("{round} {name:7} {}", measure(entry, length)?);
            }
        }
    }
    Ok(())
}

// ---- the work -----------------------------------------------------------------------------------------------------

fn measure(entry: &Entry, length: Duration) -> Result<String> {
    let cpu = || entry.cpu.iter().map(|c| c.load(Relaxed)).sum::<u64>() as f64 / 1e6;
    let addr = entry.addr;
    let mut out = Vec::new();
    for streams in [1, 8] {
        let before = cpu();
        let bytes = worker(move || bulk(addr, streams, length))?;
        let gbits = bytes as f64 * 8.0 / 1e9 / length.as_secs_f64();
        let per_gb = (cpu() - before) / (bytes as f64 / 1e9);
        out.push(format!("{streams} stream(s) {gbits:5.1} Gb/s {per_gb:.2} s/GB"));
    }
    for connections in [64, 1] {
        let before = cpu();
        let mut times = worker(move || requests(addr, connections, length))?;
        times.sort_unstable();
        let rate = times.len() as f64 / length.as_secs_f64();
        let per_100k = (cpu() - before) / times.len() as f64 * 1e5;
        let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
        out.push(format!(
            "{connections} conn {rate:6.0}/s p50 {} p99 {} us {per_100k:.2} s/100k",
            at(0.5),
            at(0.99)
        ));
    }
    let grown = worker(move || held(addr))?;
    out.push(format!("{} B a held connection", grown / HELD));
    Ok(out.join(" | "))
}

/// How many connections are held at once to see what one takes.
const HELD: usize = 2000;

/// Opens [`HELD`] connections, uses each once, and gives by how many bytes this process has grown: both proxies and both
/// ends of the application. The first round of a path tells most, later ones find freed memory.
async fn held(addr: SocketAddr) -> Result<usize> {
    let before = resident()?;
    let mut sockets = Vec::with_capacity(HELD);
    for _ in 0..HELD {
        let mut socket = TcpStream::connect(addr).await?;
        socket.write_u8(b'R').await?;
        socket.write_all(&[1; 100]).await?;
        socket.read_exact(&mut [0; 200]).await?;
        sockets.push(socket);
    }
    Ok(resident()?.saturating_sub(before))
}

/// The resident memory of this process, in bytes.
fn resident() -> Result<usize> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kib: usize = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib * 1024)
}

/// Sends for `length` on each stream; gives what the application says it received.
async fn bulk(addr: SocketAddr, streams: usize, length: Duration) -> Result<u64> {
    let send = async || -> Result<u64> {
        let mut socket = TcpStream::connect(addr).await?;
        socket.write_u8(b'B').await?;
        let block = vec![7; 256 << 10];
        let end = Instant::now() + length;
        while Instant::now() < end {
            socket.write_all(&block).await?;
        }
        socket.shutdown().await?;
        Ok(socket.read_u64().await?)
    };
    let sent = futures::future::join_all((0..streams).map(|_| send())).await;
    sent.into_iter().sum()
}

/// Small requests, one at a time on each connection; gives the time of each in microseconds.
async fn requests(addr: SocketAddr, connections: usize, length: Duration) -> Result<Vec<u64>> {
    let ask = async || -> Result<Vec<u64>> {
        let mut socket = TcpStream::connect(addr).await?;
        socket.set_nodelay(true)?;
        socket.write_u8(b'R').await?;
        let (request, mut answer) = ([1; 100], [0; 200]);
        let mut times = Vec::new();
        let end = Instant::now() + length;
        while Instant::now() < end {
            let start = Instant::now();
            socket.write_all(&request).await?;
            socket.read_exact(&mut answer).await?;
            times.push(start.elapsed().as_micros() as u64);
        }
        Ok(times)
    };
    let all = futures::future::join_all((0..connections).map(|_| ask())).await;
    Ok(all.into_iter().collect::<Result<Vec<_>>>()?.concat())
}

fn application() -> Result<SocketAddr> {
    let entry = listen("app", |socket| async move {
        let mut socket = socket;
        socket.set_nodelay(true)?;
        match socket.read_u8().await? {
            b'B' => {
                let mut block = vec![0; 256 << 10];
                let mut total = 0;
                loop {
                    match socket.read(&mut block).await? {
                        0 => break,
                        n => total += n as u64,
                    }
                }
                socket.write_u64(total).await?;
            }
            _ => {
                let (mut request, answer) = ([0; 100], [2; 200]);
                while socket.read_exact(&mut request).await.is_ok() {
                    socket.write_all(&answer).await?;
                }
            }
        }
        Ok(())
    })?;
    Ok(entry.0)
}

// ---- the paths ----------------------------------------------------------------------------------------------------

fn rustls_pair(app: SocketAddr, web: &WorkloadCert, db: &WorkloadCert) -> Result<Entry> {
    const BUFFER: usize = 64 << 10;
    let server = db.server_config();
    let (far, far_cpu) = listen("far", move |socket| {
        let server = server.clone();
        async move {
            socket.set_nodelay(true)?;
            let mut inside = TlsAcceptor::from(server).accept(socket).await?;
            let mut out = TcpStream::connect(app).await?;
            out.set_nodelay(true)?;
            copy_bidirectional_with_sizes(&mut inside, &mut out, BUFFER, BUFFER).await?;
            Ok(())
        }
    })?;
    let client = web.client_config(&[identity("db")].into())?;
    let (addr, near_cpu) = listen("near", move |mut socket| {
        let client = client.clone();
        async move {
            socket.set_nodelay(true)?;
            let out = TcpStream::connect(far).await?;
            out.set_nodelay(true)?;
            let name = far.ip().into();
            let mut out = TlsConnector::from(client).connect(name, out).await?;
            copy_bidirectional_with_sizes(&mut socket, &mut out, BUFFER, BUFFER).await?;
            Ok(())
        }
    })?;
    Ok(Entry { addr, cpu: both(near_cpu, far_cpu) })
}

fn tunnel_pair(app: SocketAddr, web: Arc<WorkloadCert>, db: Arc<WorkloadCert>) -> Result<Entry> {
    let (far, far_cpu) = listen("far", move |socket| {
        let db = db.clone();
        async move {
            let (_signal, watcher) = drain::channel();
            socket.set_nodelay(true)?;
            let handler = move |incoming: Incoming| async move {
                let Ok(out) = TcpStream::connect(app).await else { return };
                let _ = out.set_nodelay(true);
                if let Ok(stream) = incoming.accept() {
                    tunnel(out, stream, &Counters::default(), std::future::pending()).await;
                }
            };
            Ok(serve(socket, db.server_config(), &Settings::default(), watcher, handler).await?)
        }
    })?;
    thread_local! {
        static POOL: Pool = Pool::new(Settings::default());
    }
    let key =
        PoolKey { source: identity("web"), expect: [identity("db")].into(), addr: far, source_ip: far.ip() };
    let (addr, near_cpu) = listen("near", move |socket| {
        let (web, key) = (web.clone(), key.clone());
        async move {
            socket.set_nodelay(true)?;
            let dial = move || async move {
                let tcp = TcpStream::connect(far).await?;
                tcp.set_nodelay(true)?;
                Ok(tcp)
            };
            let stream = POOL.with(Pool::clone).open(&key, &web, dial, &Connect::to(app)).await?;
            tunnel(socket, stream, &Counters::default(), std::future::pending()).await;
            Ok(())
        }
    })?;
    Ok(Entry { addr, cpu: both(near_cpu, far_cpu) })
}

type Cpu = Arc<AtomicU64>;

fn both(near: Cpu, far: Cpu) -> Arc<[AtomicU64; 2]> {
    let both = Arc::new([AtomicU64::new(0), AtomicU64::new(0)]);
    let sums = both.clone();
    thread::spawn(move || {
        loop {
            sums[0].store(near.load(Relaxed), Relaxed);
            sums[1].store(far.load(Relaxed), Relaxed);
            thread::sleep(Duration::from_millis(5));
        }
    });
    both
}

// ---- threads ------------------------------------------------------------------------------------------------------

/// Runs `work` the way a worker does, and gives its result.
fn worker<T, F>(work: impl FnOnce() -> F) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, work())
}

/// A thread that answers every connection; gives its address, and its CPU time as it grows.
fn listen<F>(name: &str, answer: impl Fn(TcpStream) -> F + Send + 'static) -> Result<(SocketAddr, Cpu)>
where
    F: Future<Output = Result<()>> + 'static,
{
    let (tell, told) = mpsc::channel();
    let cpu = Cpu::default();
    let shown = cpu.clone();
    thread::Builder::new().name(name.into()).spawn(move || {
        worker::<Infallible, _>(|| async move {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            tell.send(listener.local_addr()?)?;
            spawn_local(async move {
                loop {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    shown.store(thread_cpu_us(), Relaxed);
                }
            });
            let failures = Rc::new(Cell::new(0_u32));
            loop {
                let (socket, _) = listener.accept().await?;
                let (answering, failures) = (answer(socket), failures.clone());
                spawn_local(async move {
                    if let Err(error) = answering.await
                        && failures.replace(failures.get() + 1) == 0
                    {
                        eprintln!("a connection failed: {error:#}");
                    }
                });
            }
        })
    })?;
    Ok((told.recv().context("the listener did not start")?, cpu))
}

/// The CPU time of the calling thread, from `/proc`.
fn thread_cpu_us() -> u64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    stat.split(' ').next().and_then(|ns| ns.parse::<u64>().ok()).unwrap_or(0) / 1000
}

// ---- certificates -------------------------------------------------------------------------------------------------

fn identity(service_account: &str) -> Identity {
    Identity::new("cluster.local", "bench", service_account)
}

struct Ca {
    root: String,
    issuer: Issuer<'static, KeyPair>,
}

#[async_trait]
impl CaClient for Ca {
    async fn issue(&self, _: &Identity, csr_pem: &str) -> Result<Vec<String>, CaError> {
        let signed = CertificateSigningRequestParams::from_pem(csr_pem)
            .and_then(|request| request.signed_by(&self.issuer));
        match signed {
            Ok(leaf) => Ok(vec![leaf.pem(), self.root.clone()]),
            Err(error) => Err(CaError::Refused(error.to_string())),
        }
    }
}

fn certificates() -> Result<(Arc<WorkloadCert>, Arc<WorkloadCert>)> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root = params.self_signed(&key)?.pem();
    let ca = Arc::new(Ca { root, issuer: Issuer::new(params, key) });
    worker(|| async {
        let manager = CertManager::new(ca, CertOptions::default());
        let (web, db) = (identity("web"), identity("db"));
        let (web, db) = tokio::join!(manager.certificate(&web), manager.certificate(&db));
        match (web, db) {
            (Ok(web), Ok(db)) => Ok((web, db)),
            (Err(error), _) | (_, Err(error)) => bail!(error),
        }
    })
}
