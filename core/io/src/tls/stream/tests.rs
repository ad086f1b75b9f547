//! How a stream ends.

use super::*;
use crate::{
    testing::{TestCa, identity, on_worker, tcp_pair},
    tls::handshake,
};
use futures::FutureExt;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    task::{spawn_local, yield_now},
};

/// Two ends of one stream.
async fn pair() -> (TlsIo, TlsIo) {
    let ca = TestCa::new();
    let (web, db) = (ca.cert(&identity("web")), ca.cert(&identity("db")));
    let config = web.client_config(&[identity("db")].into()).unwrap();
    let (near, far) = tcp_pair().await;
    let (near, far) =
        tokio::join!(handshake::connect(near, config), handshake::accept(far, db.server_config()));
    (near.unwrap().io, far.unwrap().io)
}

#[test]
fn what_was_written_last_arrives_though_the_peer_still_speaks() {
    on_worker(async {
        let (mut near, mut far) = pair().await;
        // As much as the sockets take while nobody reads, so that most of it waits on our side.
        let block = vec![7; 1 << 16];
        let mut sent = 0;
        while let Some(taken) = near.write(&block).now_or_never() {
            sent += taken.unwrap();
        }
        // Nobody will read this: a socket that is closed over it takes back what it has not sent yet.
        far.write_all(b"go on").await.unwrap();
        far.flush().await.unwrap();
        let closed = spawn_local(async move { near.shutdown().await });

        let mut heard = 0;
        let mut part = vec![0; 1 << 14];
        loop {
            match far.read(&mut part).await.unwrap() {
                0 => break,
                read => heard += read,
            }
            // The near side has closed long before everything is read.
            yield_now().await;
        }
        assert_eq!(heard, sent);
        far.shutdown().await.unwrap();
        closed.await.unwrap().unwrap();
    });
}

#[test]
fn a_peer_that_never_ends_is_not_waited_for_without_end() {
    on_worker(async {
        let (mut near, mut far) = pair().await;
        tokio::time::pause();
        near.shutdown().await.unwrap();
        tokio::time::resume();
        assert_eq!(far.read(&mut [0; 1]).await.unwrap(), 0);
    });
}
