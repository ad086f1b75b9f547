//! HBONE between Weft and Istio, both ways, over real TLS on loopback.

use crate::{certs::Ca, go, payload::Payload};
use http::StatusCode;
use std::{
    cell::RefCell,
    future::{Future, pending},
    net::SocketAddr,
    path::Path,
    rc::Rc,
    time::Duration,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::{JoinHandle, LocalSet, spawn_local},
    time::timeout,
};
use weft_io::{
    hbone::{Authority, HboneError, Incoming, Pool, PoolKey, Settings, Stream, client::Connect, serve},
    lifecycle::drain,
    relay::{self, Counters, RelayEnd},
    tls::{SpiffeError, TlsError},
};
use weft_model::Identity;

/// Far more than anything here takes: a test that hangs fails.
const LIMIT: Duration = Duration::from_secs(60);

fn identity(service_account: &str) -> Identity {
    Identity::new("cluster.local", "shop", service_account)
}

fn on_worker(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async { timeout(LIMIT, test).await.expect("a test that ends") });
}

/// The Go program with the certificate of `own`, for a peer that must be `peer`.
struct Istio {
    ca: Ca,
    process: go::Server,
    /// Weft's tunnels to it.
    pool: Pool,
    _files: TempDir,
}

impl Istio {
    fn start(program: &Path, command: &str, own: &Identity, peer: &Identity, rest: &[&str], ca: Ca) -> Self {
        let files = TempDir::new().unwrap();
        let flags = ca.files(own, files.path());
        let peer = peer.to_string();
        let mut args = vec![command, "-peer", &peer];
        args.extend(flags.iter().map(String::as_str).chain(rest.iter().copied()));
        let pool = Pool::new(Settings::default());
        Self { process: go::Server::start(program, &args), ca, pool, _files: files }
    }

    fn server(program: &Path, client: &Identity) -> Self {
        Self::start(program, "serve", &identity("istio"), client, &[], Ca::new())
    }
}

/// Opens a tunnel with Weft's client as `source` to Istio's server, which is expected to be `expect`.
async fn open(
    istio: &Istio,
    source: &Identity,
    expect: &Identity,
    to: SocketAddr,
) -> Result<Stream, HboneError> {
    let address = istio.process.address;
    let key = PoolKey {
        source: source.clone(),
        expect: [expect.clone()].into(),
        addr: address,
        source_ip: [127, 0, 0, 1].into(),
    };
    let cert = istio.ca.workload(source);
    istio.pool.open(&key, &cert, move || TcpStream::connect(address), &Connect::to(to)).await
}

/// An application's socket, whose other end is relayed into `stream`.
async fn application(stream: Stream) -> (TcpStream, JoinHandle<RelayEnd>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let application = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (relayed, _) = listener.accept().await.unwrap();
    let end =
        spawn_local(async move { relay::tunnel(relayed, stream, &Counters::default(), pending()).await });
    (application, end)
}

/// A port of loopback on which nobody listens.
async fn closed_port() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap()
}

#[test]
fn our_client_through_istios_server_with_a_half_close() {
    let Some(program) = go::program() else { return };
    on_worker(async {
        let istio = Istio::server(program, &identity("weft"));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = listener.local_addr().unwrap();
        let server = spawn_local(async move {
            let (mut connection, _) = listener.accept().await.unwrap();
            Payload::new(1).receive(&mut connection).await;
            assert_eq!(connection.read(&mut [0]).await.unwrap(), 0, "the client's end of its direction");
            Payload::new(2).send(&mut connection).await;
        });
        let stream = open(&istio, &identity("weft"), &identity("istio"), target).await.unwrap();
        assert_eq!(*stream.peer(), identity("istio"));
        let (mut client, end) = application(stream).await;
        Payload::new(1).send(&mut client).await;
        client.shutdown().await.unwrap();
        // The answer only begins once the server has seen that.
        Payload::new(2).receive(&mut client).await;
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
        server.await.unwrap();
        assert_eq!(end.await.unwrap(), RelayEnd::Finished);
    });
}

#[test]
fn our_client_and_a_target_of_istios_server_that_is_closed() {
    let Some(program) = go::program() else { return };
    on_worker(async {
        let istio = Istio::server(program, &identity("weft"));
        let target = closed_port().await;
        // Istio's server answers 200 before it connects, and can only end the tunnel when that fails.
        let stream = open(&istio, &identity("weft"), &identity("istio"), target).await.unwrap();
        let (mut client, _end) = application(stream).await;
        let read = client.read(&mut [0]).await;
        assert!(!matches!(read, Ok(1..)), "{read:?} from a target that does not exist");
    });
}

#[test]
fn our_client_and_istios_server_refuse_who_they_do_not_expect() {
    let Some(program) = go::program() else { return };
    on_worker(async {
        let istio = Istio::server(program, &identity("weft"));
        let target = closed_port().await;
        let error = open(&istio, &identity("weft"), &identity("other"), target).await.unwrap_err();
        let HboneError::Tls { source: TlsError::Peer(SpiffeError::WrongIdentity { got, .. }), .. } = error
        else {
            panic!("{error}")
        };
        assert_eq!(got, identity("istio"));
        // In TLS 1.3 the server's refusal comes after the client's handshake, as an alert or as an end.
        open(&istio, &identity("stranger"), &identity("istio"), target).await.unwrap_err();
    });
}

/// What Weft's server was asked, and how it answered.
type Asked = Rc<RefCell<Vec<(Identity, Authority, StatusCode)>>>;

/// Weft's server, delivering to whatever it is asked for.
async fn our_server(ca: &Ca) -> (SocketAddr, Asked) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (asked, cert) = (Asked::default(), ca.workload(&identity("weft")));
    let seen = asked.clone();
    spawn_local(async move {
        let (signal, watcher) = drain::channel();
        while let Ok((tcp, _)) = listener.accept().await {
            let (cert, watcher, seen) = (cert.clone(), watcher.clone(), seen.clone());
            spawn_local(async move {
                let handler = move |incoming| deliver(incoming, seen.clone());
                // Whether the connection ended well shows in what the applications see.
                let _ = serve(tcp, cert.server_config(), &Settings::default(), watcher, handler).await;
            });
        }
        drop(signal);
    });
    (address, asked)
}

async fn deliver(incoming: Incoming, asked: Asked) {
    let Authority::Ip(to) = incoming.authority else { panic!("{}", incoming.authority) };
    let connected = TcpStream::connect(to).await;
    let status = if connected.is_ok() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    asked.borrow_mut().push(((*incoming.peer).clone(), incoming.authority.clone(), status));
    match connected {
        Ok(tcp) => {
            let stream = incoming.accept().unwrap();
            relay::tunnel(tcp, stream, &Counters::default(), pending()).await;
        }
        Err(_) => incoming.refuse(status),
    }
}

/// Istio's client, which takes TCP connections through our server to `target`, and expects `expect` there.
async fn istios_client(program: &Path, target: SocketAddr, expect: &Identity) -> (Istio, Asked) {
    let ca = Ca::new();
    let (address, asked) = our_server(&ca).await;
    let (proxy, to) = (address.to_string(), target.to_string());
    let rest = ["-proxy", &proxy, "-to", &to];
    (Istio::start(program, "dial", &identity("istio"), expect, &rest, ca), asked)
}

#[test]
fn istios_client_through_our_server_with_the_server_speaking_first() {
    let Some(program) = go::program() else { return };
    on_worker(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = listener.local_addr().unwrap();
        let server = spawn_local(async move {
            let (mut connection, _) = listener.accept().await.unwrap();
            Payload::new(3).send(&mut connection).await;
            Payload::new(4).receive(&mut connection).await;
            assert_eq!(connection.read(&mut [0]).await.unwrap(), 0, "an end, not a reset");
        });
        let (istio, asked) = istios_client(program, target, &identity("weft")).await;
        let mut client = TcpStream::connect(istio.process.address).await.unwrap();
        Payload::new(3).receive(&mut client).await;
        Payload::new(4).send(&mut client).await;
        drop(client);
        server.await.unwrap();
        let expected = (identity("istio"), Authority::from(target), StatusCode::OK);
        assert_eq!(*asked.borrow(), [expected]);
    });
}

#[test]
fn istios_client_sees_both_directions_at_once_and_the_servers_end() {
    let Some(program) = go::program() else { return };
    on_worker(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = listener.local_addr().unwrap();
        let server = spawn_local(async move {
            let (mut connection, _) = listener.accept().await.unwrap();
            let (mut read, mut write) = connection.split();
            tokio::join!(Payload::new(5).send(&mut write), Payload::new(6).receive(&mut read));
        });
        let (istio, _asked) = istios_client(program, target, &identity("weft")).await;
        let mut client = TcpStream::connect(istio.process.address).await.unwrap();
        let (mut read, mut write) = client.split();
        tokio::join!(Payload::new(6).send(&mut write), Payload::new(5).receive(&mut read));
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
        server.await.unwrap();
    });
}

#[test]
fn istios_client_and_a_target_of_our_server_that_is_closed() {
    let Some(program) = go::program() else { return };
    on_worker(async {
        let target = closed_port().await;
        let (istio, asked) = istios_client(program, target, &identity("weft")).await;
        let mut client = TcpStream::connect(istio.process.address).await.unwrap();
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
        let refused = (identity("istio"), Authority::from(target), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(*asked.borrow(), [refused]);
    });
}

#[test]
fn istios_client_that_expects_another_server_asks_ours_for_nothing() {
    let Some(program) = go::program() else { return };
    on_worker(async {
        let target = closed_port().await;
        let (istio, asked) = istios_client(program, target, &identity("other")).await;
        let mut client = TcpStream::connect(istio.process.address).await.unwrap();
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
        assert_eq!(*asked.borrow(), []);
    });
}
