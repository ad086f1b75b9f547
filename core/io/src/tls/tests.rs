//! Handshakes with real certificates over real sockets, and the manager of certificates.

use super::*;
use crate::testing::{TestCa, identity, on_worker, tcp_pair};
use async_trait::async_trait;
use rcgen::KeyPair;
use rustls::{
    CertificateError, SignatureScheme, client::ResolvesClientCert, pki_types::PrivatePkcs8KeyDer,
    sign::CertifiedKey,
};
use std::{
    io::Write,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, SystemTime},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use weft_model::{Identity, Name};

type Outcome = (Result<Secured, TlsError>, Result<Secured, TlsError>);

/// A client with `client` that expects `expected` meets a server with `server`; each then says a byte, so that both
/// learn of an alert.
async fn meet(client: &WorkloadCert, server: &WorkloadCert, expected: &Identity) -> Outcome {
    let expected: Arc<[Identity]> = [expected.clone()].into();
    let (near, far) = tcp_pair().await;
    let connect = async {
        let mut secured = handshake::connect(near, client.client_config(&expected).unwrap()).await?;
        secured.io.write_all(b"c").await?;
        secured.io.read_u8().await?;
        Ok(secured)
    };
    let accept = async {
        let mut secured = handshake::accept(far, server.server_config()).await?;
        secured.io.write_all(b"s").await?;
        secured.io.read_u8().await?;
        Ok(secured)
    };
    tokio::join!(connect, accept)
}

#[test]
fn both_sides_learn_who_the_other_is_and_the_second_time_resume() {
    on_worker(async {
        let ca = TestCa::new();
        let (web, db) = (ca.cert(&identity("web")), ca.cert(&identity("db")));
        for resumed in [false, true, true] {
            let (client, server) = meet(&web, &db, &identity("db")).await;
            let (client, server) = (client.unwrap(), server.unwrap());
            assert_eq!(client.peer, identity("db"));
            assert_eq!(server.peer, identity("web"));
            assert_eq!((client.resumed, server.resumed), (resumed, resumed));
        }
    });
}

#[test]
fn the_hybrid_key_exchange_and_aes_gcm_are_chosen() {
    on_worker(async {
        let ca = TestCa::new();
        let (client, _server) = meet_rustls(&ca.cert(&identity("web")), &ca.cert(&identity("db"))).await;
        let state = client.get_ref().1;
        let group = state.negotiated_key_exchange_group().unwrap().name();
        assert_eq!(group, rustls::NamedGroup::X25519MLKEM768);
        let suite = state.negotiated_cipher_suite().unwrap().suite();
        assert_eq!(suite, rustls::CipherSuite::TLS13_AES_256_GCM_SHA384);
    });
}

/// A client that is rustls alone meets a server that is ours.
async fn meet_rustls(web: &WorkloadCert, db: &WorkloadCert) -> (TlsStream<TcpStream>, TlsIo) {
    let config = web.client_config(&[identity("db")].into()).unwrap();
    let (near, far) = tcp_pair().await;
    let name = near.peer_addr().unwrap().ip().into();
    let connector = TlsConnector::from(config);
    let (client, server) =
        tokio::join!(connector.connect(name, near), handshake::accept(far, db.server_config()));
    (client.unwrap(), server.unwrap().io)
}

#[test]
fn our_records_and_those_of_rustls_are_the_same_also_under_new_keys() {
    on_worker(async {
        let ca = TestCa::new();
        let (client, server) = meet_rustls(&ca.cert(&identity("web")), &ca.cert(&identity("db"))).await;
        let (mut client, mut server) = (client, server);
        let (mut sent, mut heard) = (Vec::new(), vec![0; 1 << 20]);
        for round in 0..4_u8 {
            sent.clear();
            sent.extend((0..1 << 20).map(|n: u32| n.to_le_bytes()[1] ^ round));
            tokio::try_join!(server.write_all(&sent), client.read_exact(&mut heard)).unwrap();
            assert!(heard == sent);
            let say = async {
                client.write_all(&sent).await?;
                client.flush().await
            };
            tokio::try_join!(say, server.read_exact(&mut heard)).unwrap();
            assert!(heard == sent);
            // Ours answers with a new key of its own before it says anything more.
            client.get_mut().1.refresh_traffic_keys().unwrap();
        }
        client.shutdown().await.unwrap();
        assert_eq!(server.read(&mut heard).await.unwrap(), 0);
        server.shutdown().await.unwrap();
        assert_eq!(client.read(&mut heard).await.unwrap(), 0);
    });
}

#[test]
fn an_end_without_a_close_is_an_error_and_so_is_a_changed_byte() {
    on_worker(async {
        let ca = TestCa::new();
        let (web, db) = (ca.cert(&identity("web")), ca.cert(&identity("db")));
        let (client, mut server) = meet_rustls(&web, &db).await;
        let (mut tcp, _) = client.into_inner();
        tcp.shutdown().await.unwrap();
        let error = server.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof);

        let (client, mut server) = meet_rustls(&web, &db).await;
        let (mut tcp, mut session) = client.into_inner();
        session.writer().write_all(b"pay 1").unwrap();
        let mut record = Vec::new();
        session.write_tls(&mut record).unwrap();
        *record.last_mut().unwrap() ^= 1;
        tcp.write_all(&record).await.unwrap();
        let error = server.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
        assert!(error.to_string().contains("does not decrypt"), "{error}");
    });
}

#[test]
fn a_session_is_not_resumed_for_another_identity_or_certificate() {
    on_worker(async {
        let ca = TestCa::new();
        let (web, db) = (ca.cert(&identity("web")), ca.cert(&identity("db")));
        meet(&web, &db, &identity("db")).await.0.unwrap();
        // The same server, another client.
        let (client, _) = meet(&ca.cert(&identity("cart")), &db, &identity("db")).await;
        assert!(!client.unwrap().resumed);
        // The same client, another expectation: the session of the server would satisfy it wrongly.
        let (client, server) = meet(&web, &db, &identity("other")).await;
        assert!(matches!(client, Err(TlsError::Peer(SpiffeError::WrongIdentity { .. }))));
        assert!(server.is_err());
        // The same client, another server behind the same address: its tickets are worth nothing there.
        let (client, _) = meet(&web, &ca.cert(&identity("db")), &identity("db")).await;
        assert!(!client.unwrap().resumed);
    });
}

#[test]
fn the_wrong_server_is_refused_with_both_names() {
    on_worker(async {
        let ca = TestCa::new();
        let (client, server) =
            meet(&ca.cert(&identity("web")), &ca.cert(&identity("thief")), &identity("db")).await;
        let said = client.unwrap_err().to_string();
        assert_eq!(
            said,
            "the peer has the wrong identity: expected spiffe://cluster.local/ns/shop/sa/db, \
             got spiffe://cluster.local/ns/shop/sa/thief"
        );
        assert!(server.is_err());
    });
}

#[test]
fn a_client_of_a_foreign_trust_domain_is_refused_unless_it_is_an_alias() {
    on_worker(async {
        let ca = TestCa::new();
        let foreign = Identity::new("elsewhere", "shop", "web");
        let (_, server) = meet(&ca.cert(&foreign), &ca.cert(&identity("db")), &identity("db")).await;
        let error = server.unwrap_err();
        assert!(matches!(error, TlsError::Peer(SpiffeError::ForeignTrustDomain { .. })), "{error}");

        let request = csr::request(&identity("db")).unwrap();
        let now = SystemTime::now();
        let chain = ca.sign(&request.csr_pem, now, now + Duration::from_secs(60));
        let aliases: [Name; 1] = ["elsewhere".into()];
        let db = WorkloadCert::new(identity("db"), request.key, &chain, &aliases).unwrap();
        let (_, server) = meet(&ca.cert(&foreign), &db, &identity("db")).await;
        assert_eq!(server.unwrap().peer, foreign);
    });
}

#[test]
fn expired_and_foreign_certificates_are_refused_by_both_sides() {
    on_worker(async {
        let ca = TestCa::new();
        let (web, db) = (ca.cert(&identity("web")), ca.cert(&identity("db")));
        let now = SystemTime::now();
        let (from, to) = (now - Duration::from_secs(7200), now - Duration::from_secs(3600));
        let is_expired = |error: TlsError| {
            matches!(
                error,
                TlsError::Protocol(rustls::Error::InvalidCertificate(
                    CertificateError::ExpiredContext { .. }
                ))
            )
        };
        let old = ca.cert_between(&identity("db"), from, to);
        assert!(is_expired(meet(&web, &old, &identity("db")).await.0.unwrap_err()));
        let old = ca.cert_between(&identity("web"), from, to);
        assert!(is_expired(meet(&old, &db, &identity("db")).await.1.unwrap_err()));

        let other = TestCa::new();
        let (client, server) = meet(&web, &other.cert(&identity("db")), &identity("db")).await;
        let unknown = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        assert!(matches!(client, Err(TlsError::Protocol(error)) if error == unknown));
        assert!(server.is_err());
    });
}

#[derive(Debug)]
struct NoCertificate;

impl ResolvesClientCert for NoCertificate {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

#[test]
fn a_client_without_a_certificate_or_without_http2_is_refused() {
    on_worker(async {
        let ca = TestCa::new();
        let db = ca.cert(&identity("db"));
        let expected: Arc<[Identity]> = [identity("db")].into();
        let with_cert = ca.cert(&identity("web")).client_config(&expected).unwrap();

        let mut bare = (*with_cert).clone();
        bare.client_auth_cert_resolver = Arc::new(NoCertificate);
        let (near, far) = tcp_pair().await;
        let (_client, server) = tokio::join!(
            handshake::connect(near, Arc::new(bare)),
            handshake::accept(far, db.server_config())
        );
        let error = server.unwrap_err();
        assert!(matches!(error, TlsError::Protocol(rustls::Error::NoCertificatesPresented)), "{error}");

        let mut silent = (*with_cert).clone();
        silent.alpn_protocols = Vec::new();
        let (near, far) = tcp_pair().await;
        let (_client, server) = tokio::join!(
            handshake::connect(near, Arc::new(silent)),
            handshake::accept(far, db.server_config())
        );
        assert!(matches!(server, Err(TlsError::NoHttp2)));
    });
}

#[test]
fn a_certificate_must_fit_its_identity_its_key_and_spiffe() {
    let ca = TestCa::new();
    let key = KeyPair::generate().unwrap();
    let build = |uris: &[&str], key: &KeyPair, signed: &KeyPair| {
        let der = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
        WorkloadCert::new(identity("web"), der, &ca.sign_uris(signed, uris), &[]).map(|_| ())
    };
    let web = identity("web").to_string();
    let db = identity("db").to_string();
    assert_eq!(build(&[&web], &key, &key), Ok(()));
    assert!(matches!(build(&[&db], &key, &key), Err(BadCertificate::OtherIdentity { .. })));
    assert_eq!(build(&[], &key, &key), Err(BadCertificate::Identity(SpiffeError::NoIdentity)));
    let two = build(&[&web, &db], &key, &key);
    assert_eq!(two, Err(BadCertificate::Identity(SpiffeError::SeveralUris(2))));
    assert!(matches!(
        build(&["https://shop"], &key, &key),
        Err(BadCertificate::Identity(SpiffeError::NotAnIdentity(_)))
    ));
    let other = KeyPair::generate().unwrap();
    assert!(matches!(build(&[&web], &other, &key), Err(BadCertificate::Unusable(_))));
    let empty = WorkloadCert::new(identity("web"), csr::request(&identity("web")).unwrap().key, &[], &[]);
    assert!(matches!(empty, Err(BadCertificate::Incomplete(0))));
}

#[test]
fn no_key_is_ever_printed() {
    let cert = TestCa::new().cert(&identity("web"));
    let printed = format!("{cert:?}");
    assert!(printed.contains("spiffe://cluster.local/ns/shop/sa/web"));
    assert!(!printed.to_lowercase().contains("key"), "{printed}");
}

/// An authority that fails from the `works`-th request on, and whose certificates live for `life` and were valid for as long
/// as `backdated` before.
struct Moody {
    ca: TestCa,
    asked: AtomicUsize,
    works: usize,
    life: Duration,
    backdated: Duration,
}

#[async_trait]
impl CaClient for Moody {
    async fn issue(&self, _identity: &Identity, csr_pem: &str) -> Result<Vec<String>, CaError> {
        let asked = self.asked.fetch_add(1, SeqCst);
        tokio::task::yield_now().await;
        if asked >= self.works {
            return Err(CaError::Unavailable("gone".into()));
        }
        let now = SystemTime::now();
        Ok(self.ca.sign(csr_pem, now - self.backdated, now + self.life))
    }
}

fn moody(works: usize, life: Duration) -> (Arc<Moody>, CertManager) {
    backdated(works, life, Duration::ZERO)
}

fn backdated(works: usize, life: Duration, backdated: Duration) -> (Arc<Moody>, CertManager) {
    let ca = Arc::new(Moody { ca: TestCa::new(), asked: AtomicUsize::new(0), works, life, backdated });
    (ca.clone(), CertManager::new(ca, CertOptions::default()))
}

#[tokio::test]
async fn how_long_ago_a_certificate_became_valid_does_not_make_its_renewal_sooner() {
    let (ca, manager) = backdated(usize::MAX, Duration::from_secs(60), Duration::from_secs(120));
    manager.certificate(&identity("web")).await.unwrap();
    assert!(manager.is_settled());
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(ca.asked.load(SeqCst), 1);
}

/// A clock that can be set, in seconds beside the true one, and a manager that goes by it.
fn with_clock(ahead: i64, life: Duration) -> (Arc<Moody>, CertManager, Arc<AtomicI64>) {
    let (backdated, works) = (Duration::from_secs(120), usize::MAX);
    let ca = Arc::new(Moody { ca: TestCa::new(), asked: AtomicUsize::new(0), works, life, backdated });
    let ahead = Arc::new(AtomicI64::new(ahead));
    let offset = ahead.clone();
    let clock = Clock::new(move || {
        let by = Duration::from_secs(offset.load(SeqCst).unsigned_abs());
        if offset.load(SeqCst) < 0 { SystemTime::now() - by } else { SystemTime::now() + by }
    });
    let manager = CertManager::new(ca.clone(), CertOptions { clock, ..CertOptions::default() });
    (ca, manager, ahead)
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_forward_beyond_the_end_has_the_certificate_renewed() {
    let (ca, manager, ahead) = with_clock(0, Duration::from_secs(3600));
    let web = identity("web");
    manager.certificate(&web).await.unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(ca.asked.load(SeqCst), 1);
    // The node's clock goes wrong by a day: what it gets is over as well, and it does not ask without end.
    ahead.store(86_400, SeqCst);
    tokio::time::sleep(Duration::from_secs(120)).await;
    let error = manager.certificate(&web).await.unwrap_err();
    assert!(matches!(error, CertError::Clock { .. }) && error.to_string().contains("NTP"), "{error}");
    assert_eq!(manager.list()[0].state, CertState::Expired);
    let asked = ca.asked.load(SeqCst);
    assert!((10..60).contains(&asked), "{asked} times in two minutes");
    // It is put right, and the certificate serves at once; there is a new one soon.
    ahead.store(0, SeqCst);
    manager.certificate(&web).await.unwrap();
    tokio::time::sleep(Duration::from_secs(30)).await;
    let listed = &manager.list()[0];
    assert_eq!((listed.state, &listed.last_error), (CertState::Valid, &None));
    let asked = ca.asked.load(SeqCst);
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert_eq!(ca.asked.load(SeqCst), asked, "it is at rest again");
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_behind_does_not_put_the_renewal_off() {
    let life = Duration::from_secs(3600);
    let (ca, manager, ahead) = with_clock(-30 * 86_400, life);
    let web = identity("web");
    manager.certificate(&web).await.unwrap();
    assert_eq!(manager.list()[0].state, CertState::Early, "it is used all the same");
    tokio::time::sleep(life).await;
    assert!(ca.asked.load(SeqCst) >= 2, "half of its life is over, whatever the clock says");
    // Set back once more while the certificate waits for its renewal.
    let asked = ca.asked.load(SeqCst);
    ahead.store(-60 * 86_400, SeqCst);
    tokio::time::sleep(life).await;
    assert!(ca.asked.load(SeqCst) > asked);
    assert!(ca.asked.load(SeqCst) < asked + 10);
}

/// An authority that never answers.
struct Mute;

#[async_trait]
impl CaClient for Mute {
    async fn issue(&self, _identity: &Identity, _csr_pem: &str) -> Result<Vec<String>, CaError> {
        std::future::pending().await
    }
}

#[tokio::test]
async fn it_is_settled_who_has_a_certificate_when_all_were_answered() {
    let options = CertOptions { request_timeout: Duration::from_millis(300), ..CertOptions::default() };
    let manager = CertManager::new(Arc::new(Mute), options);
    assert!(manager.is_settled(), "nobody asked");
    let mut changes = manager.changes();
    manager.prefetch(&identity("web"));
    assert!(!manager.is_settled());
    changes.changed().await.unwrap();
    assert!(manager.is_settled(), "no answer in time is one");
    assert_eq!(manager.list()[0].state, CertState::Failed);
}

#[tokio::test]
async fn many_who_ask_at_once_make_one_request() {
    let (ca, manager) = moody(usize::MAX, Duration::from_secs(3600));
    let web = identity("web");
    let asks = (0..100).map(|_| manager.certificate(&web));
    let certs = futures::future::join_all(asks).await;
    let first = certs[0].clone().unwrap();
    assert!(certs.iter().all(|cert| Arc::ptr_eq(cert.as_ref().unwrap(), &first)));
    assert_eq!(ca.asked.load(SeqCst), 1);
    let list = manager.list();
    assert_eq!((list.len(), list[0].state), (1, CertState::Valid));
    assert_eq!(list[0].serial.as_deref(), Some(first.serial()));

    manager.retain(|known| *known != web);
    assert!(manager.list().is_empty());
    manager.certificate(&web).await.unwrap();
    assert_eq!(ca.asked.load(SeqCst), 2);
}

#[tokio::test]
async fn a_failing_authority_is_reported_at_once() {
    let (_ca, manager) = moody(0, Duration::from_secs(3600));
    let error = manager.certificate(&identity("web")).await.unwrap_err();
    assert_eq!(error, CertError::Ca(CaError::Unavailable("gone".into())));
    assert_eq!(manager.list()[0].state, CertState::Failed);
}

#[tokio::test]
async fn a_failed_renewal_keeps_the_certificate_that_is_valid() {
    // Half the life passes within the test, and the second request fails.
    let (ca, manager) = moody(1, Duration::from_secs(4));
    let web = identity("web");
    let first = manager.certificate(&web).await.unwrap();
    while manager.list()[0].last_error.is_none() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(ca.asked.load(SeqCst), 2);
    assert!(Arc::ptr_eq(&manager.certificate(&web).await.unwrap(), &first));
    assert_eq!(manager.list()[0].state, CertState::Valid);
}

#[tokio::test]
async fn a_certificate_is_renewed_near_its_half_life() {
    let (_ca, manager) = moody(usize::MAX, Duration::from_secs(4));
    let web = identity("web");
    let first = manager.certificate(&web).await.unwrap();
    let renewed = async {
        loop {
            let now = manager.certificate(&web).await.unwrap();
            if !Arc::ptr_eq(&now, &first) {
                break now;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let second = tokio::time::timeout(Duration::from_secs(30), renewed).await.unwrap();
    assert_ne!(second.serial(), first.serial());
}
