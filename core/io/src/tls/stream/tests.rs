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
fn readers_with_any_room_get_the_same_bytes() {
    on_worker(async {
        let (mut near, mut far) = pair().await;
        let sent: Vec<u8> = (0..3_u32 << 18).map(|i| (i % 251) as u8).collect();
        let expected = sent.clone();
        let writer = spawn_local(async move {
            // Records of many sizes, so that some fit what the reader has room for and some do not.
            for part in sent.chunks(40_000) {
                near.write_all(part).await.unwrap();
                near.flush().await.unwrap();
            }
            near.shutdown().await
        });
        let mut heard = Vec::new();
        for room in [1, 300, 16_384, 16_385, 16_400, 100_000].into_iter().cycle() {
            let mut part = vec![0; room];
            match far.read(&mut part).await.unwrap() {
                0 => break,
                read => heard.extend_from_slice(&part[..read]),
            }
        }
        assert!(heard == expected, "{} bytes of {}", heard.len(), expected.len());
        far.shutdown().await.unwrap();
        writer.await.unwrap().unwrap();
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

/// What a reader says of a peer that sends records of this kind and content, one after the other.
async fn heard_of(kind: Kind, content: &[u8], records: u32) -> io::Result<usize> {
    let (mut near, mut far) = pair().await;
    for _ in 0..records {
        near.seal(kind, content).unwrap();
    }
    near.seal(Kind::Data, b"at last").unwrap();
    near.flush().await.unwrap();
    far.read(&mut [0; 16]).await
}

#[test]
fn a_peer_gets_only_so_many_records_without_data() {
    on_worker(async {
        assert_eq!(heard_of(Kind::Data, &[], MOST_EMPTY).await.unwrap(), 7);
        // Nothing, again and again; and a message of which every record brings one byte.
        for (kind, content) in [(Kind::Data, &[][..]), (Kind::Handshake, &[0])] {
            let error = heard_of(kind, content, MOST_EMPTY + 1).await.unwrap_err();
            let cause = error.get_ref().and_then(|e| e.downcast_ref::<BadRecord>());
            assert!(matches!(cause, Some(BadRecord::Flood | BadRecord::Message)), "{error}");
        }
    });
}
