//! Tunnels over real sockets.

use super::{client::Connect, server::ServeError, stream::StreamError, *};
use crate::{
    lifecycle::drain,
    testing::{TestCa, identity, on_worker},
    tls::{WorkloadCert, handshake},
};
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::spawn_local,
};
use weft_model::{Identity, Reason};

/// A server of `cert` that echoes every tunnel, and what it saw.
struct Server {
    addr: SocketAddr,
    seen: Rc<RefCell<Vec<Seen>>>,
    ended: Rc<RefCell<Vec<Result<(), ServeError>>>>,
    drain: drain::Signal,
}

type Seen = (Identity, Authority, Option<Forwarded>, Option<Baggage>);

impl Server {
    async fn start(cert: Arc<WorkloadCert>, settings: Settings) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (drain, watcher) = drain::channel();
        let (seen, ended) = (Rc::default(), Rc::default());
        let server = Self { addr, seen: Rc::clone(&seen), ended: Rc::clone(&ended), drain };
        spawn_local(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let (seen, ended) = (seen.clone(), ended.clone());
                let (cert, settings, watcher) = (cert.clone(), settings.clone(), watcher.clone());
                spawn_local(async move {
                    let handler = |incoming| answer(incoming, seen.clone());
                    let end = serve(tcp, cert.server_config(), &settings, watcher, handler).await;
                    ended.borrow_mut().push(end);
                });
            }
        });
        server
    }

    fn key(&self, source: &Identity, expect: &Identity) -> PoolKey {
        let expect = [expect.clone()].into();
        PoolKey { source: source.clone(), expect, addr: self.addr, source_ip: [127, 0, 0, 1].into() }
    }
}

/// Port 1 is refused by policy, port 2 cannot be connected to, port 3 is never answered, port 4 is never read; all else is
/// echoed.
async fn answer(incoming: Incoming, seen: Rc<RefCell<Vec<Seen>>>) {
    let said =
        ((*incoming.peer).clone(), incoming.authority.clone(), incoming.forwarded, incoming.baggage.clone());
    seen.borrow_mut().push(said);
    match incoming.authority.port() {
        1 => incoming.refuse(StatusCode::UNAUTHORIZED),
        2 => incoming.refuse(StatusCode::SERVICE_UNAVAILABLE),
        3 => std::future::pending().await,
        4 => {
            let _stream = incoming.accept().unwrap();
            std::future::pending().await
        }
        _ => echo(incoming.accept().unwrap()).await,
    }
}

async fn echo(mut stream: Stream) {
    while let Some(data) = poll_fn(|cx| stream.poll_recv(cx)).await {
        let Ok(mut data) = data else { return };
        let length = data.len();
        while !data.is_empty() {
            if poll_fn(|cx| stream.poll_send(cx, &mut data)).await.is_err() {
                return;
            }
        }
        stream.release(length);
    }
    let _ = stream.finish();
}

async fn say(stream: &mut Stream, text: &'static str) {
    let mut data = Bytes::from_static(text.as_bytes());
    while !data.is_empty() {
        poll_fn(|cx| stream.poll_send(cx, &mut data)).await.unwrap();
    }
}

async fn hear(stream: &mut Stream, length: usize) -> Result<Vec<u8>, StreamError> {
    let mut heard = Vec::new();
    while heard.len() < length {
        match poll_fn(|cx| stream.poll_recv(cx)).await {
            Some(data) => {
                let data = data?;
                stream.release(data.len());
                heard.extend_from_slice(&data);
            }
            None => break,
        }
    }
    Ok(heard)
}

async fn works(stream: &mut Stream) {
    say(stream, "hello").await;
    assert_eq!(hear(stream, 5).await.unwrap(), b"hello");
}

fn to(port: u16) -> Connect {
    Connect::to(SocketAddr::from(([10, 0, 0, 1], port)))
}

/// A dialler that counts.
fn dialler(addr: SocketAddr) -> (Rc<Cell<usize>>, impl AsyncDial) {
    let dialled = Rc::new(Cell::new(0));
    let counter = dialled.clone();
    (dialled, move || {
        counter.set(counter.get() + 1);
        TcpStream::connect(addr)
    })
}

trait AsyncDial: Fn() -> Self::Future + Clone + 'static {
    type Future: Future<Output = std::io::Result<TcpStream>> + 'static;
}

impl<D: Fn() -> F + Clone + 'static, F: Future<Output = std::io::Result<TcpStream>> + 'static> AsyncDial
    for D
{
    type Future = F;
}

struct Mesh {
    ca: TestCa,
    server: Server,
    pool: Pool,
    usage: Usage,
    key: PoolKey,
    cert: Arc<WorkloadCert>,
}

async fn mesh(settings: Settings) -> Mesh {
    let ca = TestCa::new();
    let server = Server::start(ca.cert(&identity("db")), settings.clone()).await;
    let key = server.key(&identity("web"), &identity("db"));
    let cert = ca.cert(&identity("web"));
    let usage = Usage::default();
    Mesh { ca, server, pool: Pool::counting(settings, usage.clone()), usage, key, cert }
}

#[test]
fn a_tunnel_carries_bytes_names_and_identities() {
    on_worker(async {
        let m = mesh(Settings::default()).await;
        let (_, dial) = dialler(m.server.addr);
        let client: SocketAddr = "[fd00::7]:4711".parse().unwrap();
        let baggage = Baggage { service: "web".into(), ..Baggage::default() };
        let connect = Connect { forwarded: Some(client.into()), baggage: Some(baggage.clone()), ..to(8080) };
        let mut stream = m.pool.open(&m.key, &m.cert, dial, &connect).await.unwrap();
        works(&mut stream).await;
        assert_eq!(*stream.peer(), identity("db"));
        stream.finish().unwrap();
        assert!(poll_fn(|cx| stream.poll_recv(cx)).await.is_none());
        let authority = "10.0.0.1:8080".parse().unwrap();
        let seen = m.server.seen.borrow().clone();
        assert_eq!(seen, [(identity("web"), authority, Some(client.into()), Some(baggage))]);
    });
}

#[test]
fn refusals_carry_their_status() {
    on_worker(async {
        let settings = Settings { answer_timeout: Duration::from_secs(2), ..Settings::default() };
        let m = mesh(settings).await;
        let (dialled, dial) = dialler(m.server.addr);
        for (port, wanted) in [(1, StatusCode::UNAUTHORIZED), (2, StatusCode::SERVICE_UNAVAILABLE)] {
            let error = m.pool.open(&m.key, &m.cert, dial.clone(), &to(port)).await.unwrap_err();
            assert!(matches!(error, HboneError::Refused { status, .. } if status == wanted), "{error}");
            let unreachable = wanted == StatusCode::SERVICE_UNAVAILABLE;
            let reason = if unreachable { Reason::ConnectFailed } else { Reason::RejectedByPeer };
            assert_eq!(error.reason(), reason);
        }
        let error = m.pool.open(&m.key, &m.cert, dial.clone(), &to(3)).await.unwrap_err();
        assert_eq!(error.reason(), Reason::ConnectTimeout);
        works(&mut m.pool.open(&m.key, &m.cert, dial, &to(8080)).await.unwrap()).await;
        assert_eq!(dialled.get(), 1);
    });
}

#[test]
fn failures_say_what_was_wrong() {
    on_worker(async {
        let m = mesh(Settings::default()).await;
        let (_, dial) = dialler(m.server.addr);
        let key = m.server.key(&identity("web"), &identity("cart"));
        let error = m.pool.open(&key, &m.cert, dial, &to(8080)).await.unwrap_err();
        assert_eq!(error.reason(), Reason::TlsFailure);
        assert!(error.to_string().contains("expected spiffe://cluster.local/ns/shop/sa/cart"), "{error}");
        assert_eq!((m.usage.tls_failures.get(), m.usage.tunnels.get()), (1, 0));

        let foreign = Identity::new("elsewhere", "shop", "web");
        let (_, dial) = dialler(m.server.addr);
        let key = m.server.key(&foreign, &identity("db"));
        let error = m.pool.open(&key, &m.ca.cert(&foreign), dial, &to(8080)).await.unwrap_err();
        assert_eq!(error.reason(), Reason::TlsFailure, "{error}");
        assert!(error.to_string().contains("ended TLS with the alert CertificateUnknown"), "{error}");

        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let (_, dial) = dialler(closed);
        let error = m.pool.open(&m.key, &m.cert, dial, &to(8080)).await.unwrap_err();
        assert_eq!(error.reason(), Reason::ConnectionRefused);
        assert_eq!(m.pool.connections(), 0);
    });
}

#[test]
fn many_streams_share_connections_up_to_the_limit() {
    on_worker(async {
        let m = mesh(Settings::default()).await;
        let (dialled, dial) = dialler(m.server.addr);
        let connect = to(8080);
        let opens = (0..450).map(|_| m.pool.open(&m.key, &m.cert, dial.clone(), &connect));
        let mut streams: Vec<Stream> =
            futures::future::join_all(opens).await.into_iter().collect::<Result<_, _>>().unwrap();
        assert_eq!(dialled.get(), 5);
        assert_eq!(m.pool.streams(), 450);
        assert_eq!(m.usage.tunnels.get(), 5);
        futures::future::join_all(streams.iter_mut().map(works)).await;
        drop(streams);
        assert_eq!(m.pool.streams(), 0);
        // The places that became free are used again.
        works(&mut m.pool.open(&m.key, &m.cert, dial, &connect).await.unwrap()).await;
        assert_eq!(dialled.get(), 5);
    });
}

#[test]
fn a_connection_outlives_the_impatience_of_the_one_who_began_it() {
    on_worker(async {
        let m = mesh(Settings::default()).await;
        let (dialled, dial) = dialler(m.server.addr);
        let connect = to(8080);
        {
            let mut impatient = Box::pin(m.pool.open(&m.key, &m.cert, dial.clone(), &connect));
            assert!(futures::poll!(&mut impatient).is_pending());
        }
        works(&mut m.pool.open(&m.key, &m.cert, dial, &connect).await.unwrap()).await;
        assert_eq!(dialled.get(), 1);
    });
}

#[test]
fn rotation_makes_a_new_connection_and_leaves_live_streams_alone() {
    on_worker(async {
        let m = mesh(Settings::default()).await;
        let (dialled, dial) = dialler(m.server.addr);
        let mut old = m.pool.open(&m.key, &m.cert, dial.clone(), &to(8080)).await.unwrap();
        works(&mut old).await;
        let (from, until) = (m.cert.half_life(), m.cert.not_after() + Duration::from_secs(3600));
        let renewed = m.ca.cert_between(&identity("web"), from, until);
        let mut new = m.pool.open(&m.key, &renewed, dial, &to(8080)).await.unwrap();
        works(&mut new).await;
        works(&mut old).await;
        assert_eq!((dialled.get(), m.pool.connections()), (2, 1));
        drop(old);
        // The old connection closes by itself once nothing is on it.
        while m.server.ended.borrow().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(m.server.ended.borrow()[0].is_ok());
        works(&mut new).await;
    });
}

#[test]
fn a_draining_server_finishes_its_streams_and_gets_no_new_ones() {
    on_worker(async {
        let Mesh { server, pool, key, cert, .. } = mesh(Settings::default()).await;
        let (dialled, dial) = dialler(server.addr);
        let mut live = pool.open(&key, &cert, dial.clone(), &to(8080)).await.unwrap();
        works(&mut live).await;
        spawn_local(server.drain.drain(Duration::from_secs(30)));
        // GOAWAY needs a moment; until it is here the first connection may still be chosen.
        while dialled.get() == 1 {
            let _ = pool.open(&key, &cert, dial.clone(), &to(8080)).await;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        works(&mut live).await;
        live.finish().unwrap();
        assert!(poll_fn(|cx| live.poll_recv(cx)).await.is_none());
    });
}

#[test]
fn a_drain_whose_time_is_over_breaks_what_is_left() {
    on_worker(async {
        let Mesh { server, pool, key, cert, .. } = mesh(Settings::default()).await;
        let (_, dial) = dialler(server.addr);
        let mut live = pool.open(&key, &cert, dial, &to(8080)).await.unwrap();
        works(&mut live).await;
        // The accept loop and the connection each hold a watcher.
        let drained = server.drain.drain(Duration::from_millis(50)).await;
        assert_eq!(drained, drain::Drained::Forced(2));
        let broken = poll_fn(|cx| live.poll_recv(cx)).await;
        assert!(matches!(broken, Some(Err(_))), "{broken:?}");
        let ended = server.ended.borrow();
        assert!(matches!(ended[..], [Err(ServeError::Drained)]));
    });
}

#[test]
fn a_silent_peer_is_noticed_by_ping() {
    on_worker(async {
        let settings = Settings {
            ping_interval: Duration::from_millis(50),
            ping_timeout: Duration::from_secs(1),
            ..Settings::default()
        };
        let m = mesh(settings).await;
        // A wire that can be cut without either end seeing a FIN.
        let wire = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let key = PoolKey { addr: wire.local_addr().unwrap(), ..m.key.clone() };
        let target = m.server.addr;
        let (scissors, cut) = oneshot::channel::<()>();
        let carried = spawn_local(async move {
            let (mut near, _) = wire.accept().await.unwrap();
            let mut far = TcpStream::connect(target).await.unwrap();
            let both = copy_bidirectional(&mut near, &mut far);
            tokio::select! {
                _ = both => {}
                _ = cut => {}
            }
            (near, far)
        });
        let (_, dial) = dialler(key.addr);
        let mut stream = m.pool.open(&key, &m.cert, dial, &to(8080)).await.unwrap();
        // Pings are answered for as long as the wire is whole.
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_millis(500)).await;
            works(&mut stream).await;
        }
        scissors.send(()).unwrap();
        let _ends_kept_open = carried.await.unwrap();
        let broken = poll_fn(|cx| stream.poll_recv(cx)).await;
        assert!(matches!(broken, Some(Err(StreamError::Lost(_)))), "{broken:?}");
        while m.server.ended.borrow().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(matches!(m.server.ended.borrow()[..], [Err(ServeError::PingTimeout)]));
        assert_eq!(m.pool.connections(), 0);
    });
}

#[test]
fn an_idle_connection_is_closed() {
    on_worker(async {
        let settings = Settings { idle_timeout: Duration::from_secs(1), ..Settings::default() };
        let m = mesh(settings).await;
        let (_, dial) = dialler(m.server.addr);
        let mut stream = m.pool.open(&m.key, &m.cert, dial, &to(8080)).await.unwrap();
        tokio::time::sleep(Duration::from_millis(1500)).await;
        works(&mut stream).await;
        assert_eq!(m.pool.connections(), 1);
        drop(stream);
        while m.usage.tunnels.get() > 0 || m.server.ended.borrow().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(m.pool.connections(), 0);
        assert!(m.server.ended.borrow()[0].is_ok());
    });
}

#[test]
fn a_forgotten_address_keeps_no_idle_tunnel() {
    on_worker(async {
        let m = mesh(Settings::default()).await;
        let (dialled, dial) = dialler(m.server.addr);
        let mut stream = m.pool.open(&m.key, &m.cert, dial.clone(), &to(8080)).await.unwrap();
        m.pool.forget(&[[127, 0, 0, 2].into()]);
        assert_eq!(m.pool.connections(), 1, "another's");
        m.pool.forget(&[m.key.source_ip]);
        assert_eq!(m.pool.connections(), 0);
        works(&mut stream).await;
        drop(stream);
        while m.server.ended.borrow().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(m.server.ended.borrow()[0].is_ok());
        works(&mut m.pool.open(&m.key, &m.cert, dial, &to(8080)).await.unwrap()).await;
        assert_eq!(dialled.get(), 2);
    });
}

#[test]
fn only_a_plain_connect_to_a_good_authority_is_taken() {
    on_worker(async {
        let m = mesh(Settings::default()).await;
        let tcp = TcpStream::connect(m.server.addr).await.unwrap();
        let config = m.cert.client_config(&m.key.expect).unwrap();
        let secured = handshake::connect(tcp, config).await.unwrap();
        let (requests, connection) = h2::client::handshake(secured.io).await.unwrap();
        spawn_local(connection);
        let ask = async |method: Method, uri: &str| {
            let request = Request::builder().method(method).uri(uri).body(()).unwrap();
            let mut requests = requests.clone().ready().await.unwrap();
            let (response, _) = requests.send_request(request, false).unwrap();
            response.await.unwrap().status()
        };
        assert_eq!(ask(Method::GET, "https://10.0.0.1:80/").await, StatusCode::BAD_REQUEST);
        assert_eq!(ask(Method::CONNECT, "10.0.0.1:0").await, StatusCode::BAD_REQUEST);
        assert_eq!(ask(Method::CONNECT, "300.0.0.1:80").await, StatusCode::BAD_REQUEST);
        assert!(m.server.seen.borrow().is_empty());
        assert_eq!(ask(Method::CONNECT, "10.0.0.1:8080").await, StatusCode::OK);
    });
}

/// Sends to an application that does not read, until no more is taken; how much was.
async fn fill(stream: &mut Stream) -> usize {
    let block = Bytes::from(vec![7; 64 << 10]);
    let mut sent = 0;
    let endless = async {
        loop {
            let mut data = block.clone();
            while !data.is_empty() {
                sent += poll_fn(|cx| stream.poll_send(cx, &mut data)).await.unwrap();
            }
        }
    };
    assert!(tokio::time::timeout(Duration::from_millis(150), endless).await.is_err());
    sent
}

#[test]
fn a_client_pins_no_more_than_the_budget() {
    on_worker(async {
        let budget = Budget::new(3 << 20);
        let settings = Settings { incoming_budget: budget.clone(), ..Settings::default() };
        let m = mesh(settings).await;
        let (_, dial) = dialler(m.server.addr);
        let (mut stalled, mut sent) = (Vec::new(), 0);
        for _ in 0..4 {
            let mut stream = m.pool.open(&m.key, &m.cert, dial.clone(), &to(4)).await.unwrap();
            sent += fill(&mut stream).await;
            stalled.push(stream);
        }
        assert_eq!(budget.left(), 0);
        assert!(sent <= 3 << 20, "{sent} bytes lie there");
        // Another tunnel has to do with less, and does.
        let other = PoolKey { source_ip: [127, 0, 0, 2].into(), ..m.key.clone() };
        works(&mut m.pool.open(&other, &m.cert, dial, &to(8080)).await.unwrap()).await;
        drop(stalled);
        m.pool.forget(&[m.key.source_ip]);
        while budget.left() < 3 << 20 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
}

#[test]
fn a_server_pins_no_more_than_the_budget() {
    on_worker(async {
        let budget = Budget::new(5 << 20);
        let settings = Settings { outgoing_budget: budget.clone(), ..Settings::default() };
        let m = mesh(settings).await;
        let (_, dial) = dialler(m.server.addr);
        let app = to(8080);
        let open = || m.pool.open(&m.key, &m.cert, dial.clone(), &app);
        let mut streams = vec![open().await.unwrap()];
        assert_eq!(budget.left(), 3 << 20, "a window for one stream");
        for _ in 0..3 {
            streams.push(open().await.unwrap());
        }
        assert_eq!(budget.left(), 0);
        for stream in &mut streams {
            works(stream).await;
        }
        drop(streams);
        m.pool.forget(&[m.key.source_ip]);
        while budget.left() < 5 << 20 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
}

#[test]
fn applications_that_do_not_read_stall_alone() {
    on_worker(async {
        let m = mesh(Settings::default()).await;
        let (dialled, dial) = dialler(m.server.addr);
        let mut stalled = Vec::new();
        for _ in 0..20 {
            let mut stream = m.pool.open(&m.key, &m.cert, dial.clone(), &to(4)).await.unwrap();
            let sent = fill(&mut stream).await;
            let bound = Settings::default().stream_window as usize + Settings::default().send_buffer;
            assert!(sent <= bound, "back-pressure lets {sent} bytes through");
            stalled.push(stream);
        }
        works(&mut m.pool.open(&m.key, &m.cert, dial, &to(8080)).await.unwrap()).await;
        assert_eq!(dialled.get(), 1);
    });
}

#[test]
fn bursts_of_resets_leave_the_tunnel_alone() {
    on_worker(async {
        let m = mesh(Settings::default()).await;
        let (dialled, dial) = dialler(m.server.addr);
        let connect = to(8080);
        let mut live = m.pool.open(&m.key, &m.cert, dial.clone(), &connect).await.unwrap();
        for _ in 0..40 {
            let opens = (0..50).map(|_| m.pool.open(&m.key, &m.cert, dial.clone(), &connect));
            let mut streams: Vec<Stream> =
                futures::future::join_all(opens).await.into_iter().collect::<Result<_, _>>().unwrap();
            for stream in &mut streams {
                say(stream, "gone").await;
            }
            // All is on its way; the echoes cross the resets on the wire.
            tokio::task::yield_now().await;
            for stream in &mut streams {
                stream.reset(h2::Reason::CONNECT_ERROR);
            }
        }
        works(&mut live).await;
        assert_eq!(dialled.get(), 1);
    });
}
