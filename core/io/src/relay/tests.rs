//! An application's view of two relays with a tunnel between them.

use super::*;
use crate::{
    hbone::{Incoming, Pool, PoolKey, Settings, client::Connect, serve},
    lifecycle::drain,
    testing::{TestCa, identity, on_worker, tcp_pair},
};
use std::{io, net::SocketAddr, rc::Rc};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, Interest},
    net::TcpListener,
    sync::oneshot,
    task::{JoinHandle, spawn_local},
};

/// The client's socket, the server's socket, and the relays between them.
struct Path {
    client: TcpStream,
    server: TcpStream,
    near: JoinHandle<RelayEnd>,
    far: JoinHandle<RelayEnd>,
    counters: Rc<Counters>,
    close: Option<oneshot::Sender<()>>,
    /// Cuts the tunnel's TLS connection without a word.
    wire: JoinHandle<()>,
}

async fn never() {
    std::future::pending().await
}

async fn path() -> Path {
    let ca = TestCa::new();
    let (web, db) = (ca.cert(&identity("web")), ca.cert(&identity("db")));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (to_app, server) = tcp_pair().await;
    let (ended, far_end) = oneshot::channel();
    let delivery = Rc::new(std::cell::RefCell::new(Some((to_app, ended))));
    let wire = spawn_local(async move {
        let (tcp, _) = listener.accept().await.unwrap();
        let (_signal, watcher) = drain::channel();
        let handler = move |incoming: Incoming| {
            let delivery = delivery.borrow_mut().take();
            async move {
                let (to_app, ended) = delivery.unwrap();
                let stream = incoming.accept().unwrap();
                let end = tunnel(to_app, stream, &Counters::default(), never()).await;
                let _ = ended.send(end);
            }
        };
        let _ = serve(tcp, db.server_config(), &Settings::default(), watcher, handler).await;
    });
    let far = spawn_local(async move { far_end.await.unwrap() });

    let pool = Pool::new(Settings::default());
    let key = PoolKey {
        source: identity("web"),
        expect: [identity("db")].into(),
        addr,
        source_ip: [127, 0, 0, 1].into(),
    };
    let connect = Connect::to(SocketAddr::from(([10, 0, 0, 1], 80)));
    let stream = pool.open(&key, &web, move || TcpStream::connect(addr), &connect).await.unwrap();
    let (client, from_app) = tcp_pair().await;
    let (close, closed) = oneshot::channel::<()>();
    let counters = Rc::new(Counters::default());
    let near = spawn_local({
        let counters = counters.clone();
        async move {
            let closed = async {
                if closed.await.is_err() {
                    never().await;
                }
            };
            let end = tunnel(from_app, stream, &*counters, closed).await;
            drop(pool);
            end
        }
    });
    Path { client, server, near, far, counters, close: Some(close), wire }
}

async fn said(socket: &mut TcpStream, length: usize) -> Vec<u8> {
    let mut heard = vec![0; length];
    socket.read_exact(&mut heard).await.unwrap();
    heard
}

async fn is_reset(socket: &mut TcpStream) -> bool {
    let read = socket.read_u8().await;
    matches!(read, Err(error) if error.kind() == io::ErrorKind::ConnectionReset)
}

#[test]
fn the_server_may_speak_first_and_both_end_in_peace() {
    on_worker(async {
        let mut p = path().await;
        p.server.write_all(b"220 ready").await.unwrap();
        assert_eq!(said(&mut p.client, 9).await, b"220 ready");
        p.client.write_all(b"HELO").await.unwrap();
        assert_eq!(said(&mut p.server, 4).await, b"HELO");
        drop(p.client);
        assert_eq!(p.server.read(&mut [0; 8]).await.unwrap(), 0);
        drop(p.server);
        assert_eq!(p.near.await.unwrap(), RelayEnd::Finished);
        assert_eq!(p.far.await.unwrap(), RelayEnd::Finished);
        assert_eq!(p.counters.bytes(Direction::Rightward), 4);
        assert_eq!(p.counters.bytes(Direction::Leftward), 9);
    });
}

#[test]
fn a_half_close_leaves_the_other_direction_open() {
    on_worker(async {
        for client_first in [true, false] {
            let p = path().await;
            let (mut first, mut second) =
                if client_first { (p.client, p.server) } else { (p.server, p.client) };
            first.write_all(b"question").await.unwrap();
            first.shutdown().await.unwrap();
            let mut question = String::new();
            second.read_to_string(&mut question).await.unwrap();
            assert_eq!(question, "question");
            for _ in 0..3 {
                second.write_all(b"answer").await.unwrap();
                assert_eq!(said(&mut first, 6).await, b"answer");
            }
            drop(second);
            assert_eq!(first.read(&mut [0; 8]).await.unwrap(), 0);
            assert_eq!(p.near.await.unwrap(), RelayEnd::Finished);
            assert_eq!(p.far.await.unwrap(), RelayEnd::Finished);
        }
    });
}

#[test]
fn a_reset_arrives_as_a_reset_both_ways() {
    on_worker(async {
        for client_resets in [true, false] {
            let mut p = path().await;
            p.client.write_all(b"x").await.unwrap();
            said(&mut p.server, 1).await;
            let (near, far) = (p.near, p.far);
            if client_resets {
                p.client.set_zero_linger().unwrap();
                drop(p.client);
                assert!(is_reset(&mut p.server).await);
                assert_eq!(near.await.unwrap(), RelayEnd::Broken(Side::Left, Broken::Reset));
                assert_eq!(far.await.unwrap(), RelayEnd::Broken(Side::Right, Broken::Reset));
            } else {
                p.server.set_zero_linger().unwrap();
                drop(p.server);
                assert!(is_reset(&mut p.client).await);
                assert_eq!(near.await.unwrap(), RelayEnd::Broken(Side::Right, Broken::Reset));
                assert_eq!(far.await.unwrap(), RelayEnd::Broken(Side::Left, Broken::Reset));
            }
        }
    });
}

#[test]
fn a_reset_after_a_half_close_is_noticed_while_nothing_moves() {
    on_worker(async {
        let mut p = path().await;
        p.client.shutdown().await.unwrap();
        assert_eq!(p.server.read(&mut [0; 8]).await.unwrap(), 0);
        p.client.set_zero_linger().unwrap();
        drop(p.client);
        // A socket that has read FIN keeps reading an end; the reset shows as its error.
        p.server.ready(Interest::ERROR).await.unwrap();
        assert_eq!(p.server.take_error().unwrap().unwrap().kind(), io::ErrorKind::BrokenPipe);
        assert_eq!(p.near.await.unwrap(), RelayEnd::Broken(Side::Left, Broken::Reset));
    });
}

#[test]
fn a_reset_is_noticed_while_the_other_side_does_not_read() {
    on_worker(async {
        let mut p = path().await;
        // Fill every buffer and window of the path.
        let block = vec![7; 1 << 20];
        while let Ok(written) =
            tokio::time::timeout(std::time::Duration::from_millis(300), p.client.write(&block)).await
        {
            written.unwrap();
        }
        p.client.set_zero_linger().unwrap();
        drop(p.client);
        assert_eq!(p.near.await.unwrap(), RelayEnd::Broken(Side::Left, Broken::Reset));
        assert_eq!(p.far.await.unwrap(), RelayEnd::Broken(Side::Right, Broken::Reset));
        let mut rest = Vec::new();
        let end = p.server.read_to_end(&mut rest).await.unwrap_err();
        assert_eq!(end.kind(), io::ErrorKind::ConnectionReset);
    });
}

#[test]
fn a_lost_tunnel_is_a_reset_for_both_applications() {
    on_worker(async {
        let mut p = path().await;
        p.client.write_all(b"x").await.unwrap();
        said(&mut p.server, 1).await;
        p.wire.abort();
        assert!(is_reset(&mut p.client).await);
        assert!(is_reset(&mut p.server).await);
        assert_eq!(p.near.await.unwrap(), RelayEnd::Broken(Side::Right, Broken::Lost));
        assert_eq!(p.far.await.unwrap(), RelayEnd::Broken(Side::Right, Broken::Lost));
    });
}

#[test]
fn told_to_close_it_resets_both_sides() {
    on_worker(async {
        let mut p = path().await;
        p.client.write_all(b"x").await.unwrap();
        said(&mut p.server, 1).await;
        p.close.take().unwrap().send(()).unwrap();
        assert!(is_reset(&mut p.client).await);
        assert!(is_reset(&mut p.server).await);
        assert_eq!(p.near.await.unwrap(), RelayEnd::Closed);
    });
}

/// Sends `length` bytes that depend on their position, then ends; gives the checksum.
async fn send(mut socket: tokio::net::tcp::OwnedWriteHalf, seed: u64, length: usize) -> u64 {
    let (mut state, mut sum, mut left) = (seed, 0, length);
    let mut block = vec![0; 65_521];
    while left > 0 {
        let part = left.min(block.len());
        for byte in &mut block[..part] {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            *byte = state.to_be_bytes()[0];
        }
        sum = checksum(sum, &block[..part]);
        socket.write_all(&block[..part]).await.unwrap();
        left -= part;
    }
    sum
}

async fn receive(mut socket: tokio::net::tcp::OwnedReadHalf) -> (u64, usize) {
    let (mut sum, mut length) = (0, 0);
    let mut block = vec![0; 100_003];
    loop {
        match socket.read(&mut block).await.unwrap() {
            0 => return (sum, length),
            n => {
                sum = checksum(sum, &block[..n]);
                length += n;
            }
        }
    }
}

fn checksum(sum: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(sum, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)))
}

async fn exchange(client: TcpStream, server: TcpStream, length: usize) {
    let (client_read, client_write) = client.into_split();
    let (server_read, server_write) = server.into_split();
    let (up, down, got_up, got_down) = tokio::join!(
        send(client_write, 1, length),
        send(server_write, 2, length),
        receive(server_read),
        receive(client_read),
    );
    assert_eq!(got_up, (up, length));
    assert_eq!(got_down, (down, length));
}

#[test]
fn every_byte_of_a_big_exchange_arrives_in_order() {
    const LENGTH: usize = 24 << 20;
    on_worker(async {
        let p = path().await;
        exchange(p.client, p.server, LENGTH).await;
        assert_eq!(p.near.await.unwrap(), RelayEnd::Finished);
        assert_eq!(p.far.await.unwrap(), RelayEnd::Finished);
        assert_eq!(p.counters.bytes(Direction::Rightward), LENGTH as u64);
        assert_eq!(p.counters.bytes(Direction::Leftward), LENGTH as u64);
    });
}

#[test]
fn a_plain_relay_keeps_ends_and_resets_too() {
    on_worker(async {
        let relay = async || {
            let (client, near) = tcp_pair().await;
            let (far, server) = tcp_pair().await;
            let task = spawn_local(async move { plain(near, far, &Counters::default(), never()).await });
            (client, server, task)
        };
        let (client, server, task) = relay().await;
        exchange(client, server, 4 << 20).await;
        assert_eq!(task.await.unwrap(), RelayEnd::Finished);

        let (client, mut server, task) = relay().await;
        client.set_zero_linger().unwrap();
        drop(client);
        assert!(is_reset(&mut server).await);
        assert_eq!(task.await.unwrap(), RelayEnd::Broken(Side::Left, Broken::Reset));
    });
}
