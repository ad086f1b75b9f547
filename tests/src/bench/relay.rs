//! A plain pair of rustls relays: what encryption alone costs.
//!
//! The first relay accepts TCP and opens one TLS 1.3 connection (mutual, AES-256-GCM) for each connection to the second,
//! which connects to the application: nothing is pooled, framed, looked up or counted. It is as fast as that gets with
//! ordinary means: one single-threaded runtime a core, with a listener of its own (SO_REUSEPORT), session resumption as
//! rustls does it by default, and buffers of four TLS records.

use anyhow::{Context, Result};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    server::WebPkiClientVerifier,
};
use socket2::{Domain, Protocol, Socket, Type};
use std::{fs, future::Future, net::SocketAddr, path::Path, sync::Arc, thread};
use tokio::{
    io::{AsyncRead, AsyncWrite, copy_bidirectional_with_sizes},
    net::{TcpListener, TcpStream},
    task::LocalSet,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// The name in the relays' certificate.
const NAME: &str = "relay.bench";
const BUFFER: usize = 64 << 10;
const BACKLOG: i32 = 4096;

/// Which relay of the pair.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum Role {
    /// Accepts TCP and speaks TLS to the other.
    Client,
    /// Accepts TLS and speaks TCP to the application.
    Server,
}

/// One relay.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Which of the pair.
    #[arg(value_enum)]
    pub role: Role,
    /// Where it listens.
    pub listen: SocketAddr,
    /// Where it connects to.
    pub to: SocketAddr,
    /// The directory that [`write_certificates`] filled.
    pub certificates: std::path::PathBuf,
}

/// Makes one root and one certificate, for both relays, in `directory`.
pub fn write_certificates(directory: &Path) -> Result<()> {
    let root_key = rcgen::KeyPair::generate()?;
    let mut root = rcgen::CertificateParams::new(Vec::new())?;
    root.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let root_certificate = root.self_signed(&root_key)?;
    let issuer = rcgen::Issuer::new(root, root_key);
    let key = rcgen::KeyPair::generate()?;
    let leaf = rcgen::CertificateParams::new([NAME.to_owned()])?.signed_by(&key, &issuer)?;
    fs::create_dir_all(directory)?;
    fs::write(directory.join("root.pem"), root_certificate.pem())?;
    fs::write(directory.join("leaf.pem"), leaf.pem())?;
    fs::write(directory.join("key.pem"), key.serialize_pem())?;
    Ok(())
}

/// Relays until the process is ended.
pub fn run(options: &Options) -> Result<()> {
    let tls = Tls::read(options)?;
    let cores = thread::available_parallelism()?.get();
    let listeners = (0..cores).map(|_| listen(options.listen)).collect::<Result<Vec<_>>>()?;
    println!("{}", serde_json::json!({ "ready": options.listen }));
    let workers: Vec<_> = listeners
        .into_iter()
        .map(|listener| {
            let (tls, to) = (tls.clone(), options.to);
            thread::spawn(move || work(listener, &tls, to))
        })
        .collect();
    workers
        .into_iter()
        .try_for_each(|worker| worker.join().map_err(|_| anyhow::anyhow!("a worker panicked"))?)
}

#[derive(Clone)]
enum Tls {
    Client(TlsConnector),
    Server(TlsAcceptor),
}

impl Tls {
    fn read(options: &Options) -> Result<Self> {
        let file = |name: &str| options.certificates.join(name);
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(file("root.pem")).context("root.pem")?)?;
        let chain = vec![CertificateDer::from_pem_file(file("leaf.pem")).context("leaf.pem")?];
        let key = PrivateKeyDer::from_pem_file(file("key.pem")).context("key.pem")?;
        let provider = Arc::new(CryptoProvider {
            cipher_suites: vec![aws_lc_rs::cipher_suite::TLS13_AES_256_GCM_SHA384],
            ..aws_lc_rs::default_provider()
        });
        let versions = &[&rustls::version::TLS13];
        Ok(match options.role {
            Role::Client => {
                let config = ClientConfig::builder_with_provider(provider)
                    .with_protocol_versions(versions)?
                    .with_root_certificates(roots)
                    .with_client_auth_cert(chain, key)?;
                Self::Client(TlsConnector::from(Arc::new(config)))
            }
            Role::Server => {
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone()).build()?;
                let config = ServerConfig::builder_with_provider(provider)
                    .with_protocol_versions(versions)?
                    .with_client_cert_verifier(verifier)
                    .with_single_cert(chain, key)?;
                Self::Server(TlsAcceptor::from(Arc::new(config)))
            }
        })
    }
}

fn listen(at: SocketAddr) -> Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(at), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&at.into()).with_context(|| format!("cannot listen at {at}"))?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// One core's share of the connections.
fn work(listener: std::net::TcpListener, tls: &Tls, to: SocketAddr) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, async {
        let listener = TcpListener::from_std(listener)?;
        loop {
            let (stream, _) = listener.accept().await?;
            let tls = tls.clone();
            // A connection that fails shows in the measurement of whoever made it.
            tokio::task::spawn_local(async move { relay(stream, tls, to).await.ok() });
        }
    })
}

async fn relay(stream: TcpStream, tls: Tls, to: SocketAddr) -> Result<()> {
    stream.set_nodelay(true)?;
    match tls {
        Tls::Client(connector) => {
            let far = connect(to).await?;
            let name = ServerName::try_from(NAME)?;
            copy(stream, connector.connect(name, far)).await
        }
        Tls::Server(acceptor) => {
            let near = acceptor.accept(stream).await?;
            copy(near, connect(to)).await
        }
    }
}

async fn connect(to: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect(to).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn copy<A, B>(mut near: A, far: impl Future<Output = std::io::Result<B>>) -> Result<()>
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let mut far = far.await?;
    copy_bidirectional_with_sizes(&mut near, &mut far, BUFFER, BUFFER).await?;
    Ok(())
}
