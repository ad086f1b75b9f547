//! A client of HBONE that shows whatever papers it is given, trusts every server, and asks for whatever it likes.

use anyhow::{Context, Result};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, Uri, header::FORWARDED};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, IsCa, Issuer, KeyPair, SanType, date_time_ymd,
};
use rustls::{
    ClientConfig, DigitallySignedStruct, SignatureScheme, SupportedProtocolVersion,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
    version::{TLS12, TLS13},
};
use std::{fs, net::SocketAddr, sync::Arc, time::Duration};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use weft_tests::Mesh;

/// How long one attempt may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Who signed a certificate.
#[derive(Clone, Copy, Debug)]
pub enum Signer {
    /// The mesh's own authority.
    Mesh,
    /// An authority of the same name with another key.
    Impostor,
    /// The certificate itself.
    Nobody,
}

/// When a certificate is valid.
#[derive(Clone, Copy, Debug)]
pub enum Validity {
    Now,
    Past,
    Future,
}

/// A certificate with its key.
pub struct Papers(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

impl Papers {
    /// For a subject alternative name: a URI where there is a scheme in it, else a DNS name.
    pub fn new(mesh: &Mesh, name: &str, signer: Signer, validity: Validity) -> Result<Self> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let san = name.try_into()?;
        params.subject_alt_names =
            vec![if name.contains("://") { SanType::URI(san) } else { SanType::DnsName(san) }];
        let (from, to) = match validity {
            Validity::Now => (2020, 2090),
            Validity::Past => (2020, 2021),
            Validity::Future => (2090, 2091),
        };
        (params.not_before, params.not_after) = (date_time_ymd(from, 1, 1), date_time_ymd(to, 1, 1));
        let key = KeyPair::generate()?;
        let directory = mesh.control.state.join("ca");
        let authority = fs::read_to_string(directory.join("ca-cert.pem"))?;
        let chain = match signer {
            Signer::Mesh => {
                let signing = KeyPair::from_pem(&fs::read_to_string(directory.join("ca-key.pem"))?)?;
                let leaf = params.signed_by(&key, &Issuer::from_ca_cert_pem(&authority, signing)?)?;
                vec![leaf.der().clone(), CertificateDer::from_pem_slice(authority.as_bytes())?]
            }
            Signer::Impostor => {
                let other = KeyPair::generate()?;
                let mut root = CertificateParams::default();
                root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
                let leaf = params.signed_by(&key, &Issuer::from_ca_cert_pem(&authority, &other)?)?;
                vec![leaf.der().clone(), root.self_signed(&other)?.der().clone()]
            }
            Signer::Nobody => vec![params.self_signed(&key)?.der().clone()],
        };
        Ok(Self(chain, PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg)?))
    }
}

/// What an attempt led to.
#[derive(Debug)]
pub enum Answer {
    /// No TLS, or no HTTP/2 on it.
    NoTunnel(String),
    /// A refusal.
    Refused(StatusCode),
    /// A tunnel, through which the application answered this to a GET.
    Open(String),
}

/// A client.
pub struct Intruder {
    config: Arc<ClientConfig>,
}

impl Intruder {
    /// With these papers, or with none.
    pub fn new(papers: Option<Papers>) -> Result<Self> {
        Self::of_version(papers, &TLS13)
    }

    /// With these papers, in the version of TLS before the mesh's.
    pub fn outdated(papers: Papers) -> Result<Self> {
        Self::of_version(Some(papers), &TLS12)
    }

    fn of_version(papers: Option<Papers>, version: &'static SupportedProtocolVersion) -> Result<Self> {
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[version])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(TrustAnybody));
        let mut config = match papers {
            Some(Papers(chain, key)) => builder.with_client_auth_cert(chain, key)?,
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Self { config: Arc::new(config) })
    }

    /// Connects from the pod outside the mesh to port 15008 of `pod` (an address of it), and asks for `authority`.
    pub fn ask(&self, mesh: &Mesh, pod: SocketAddr, request: Ask<'_>) -> Result<Answer> {
        let place = mesh.pod("legacy/desk")?;
        place.netns.block_on(|| async {
            match tokio::time::timeout(PATIENCE, self.attempt(pod, request)).await {
                Ok(Ok(answer)) => Ok(answer),
                Ok(Err(error)) => Ok(Answer::NoTunnel(format!("{error:#}"))),
                Err(_) => anyhow::bail!("no answer from {pod} after {PATIENCE:?}"),
            }
        })
    }

    async fn attempt(&self, pod: SocketAddr, ask: Ask<'_>) -> Result<Answer> {
        let tcp = TcpStream::connect(pod).await.context("TCP")?;
        let name = ServerName::from(pod.ip());
        let tls = TlsConnector::from(self.config.clone()).connect(name, tcp).await.context("TLS")?;
        let (client, connection) = h2::client::handshake(tls).await.context("HTTP/2")?;
        let driver = tokio::spawn(connection);
        let uri = Uri::builder().authority(ask.authority).build()?;
        let mut request = Request::builder().method(Method::CONNECT).uri(uri).body(())?;
        if let Some(forwarded) = ask.forwarded {
            request.headers_mut().insert(FORWARDED, HeaderValue::from_str(forwarded)?);
        }
        let (answer, mut body) = client.ready().await.context("HTTP/2")?.send_request(request, false)?;
        let answer = answer.await.context("CONNECT")?;
        if answer.status() != StatusCode::OK {
            return Ok(Answer::Refused(answer.status()));
        }
        body.send_data(Bytes::from_static(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"), false)?;
        let (mut stream, mut said) = (answer.into_body(), Vec::new());
        while let Some(data) = stream.data().await {
            let data = data.context("the tunnel")?;
            stream.flow_control().release_capacity(data.len())?;
            said.extend_from_slice(&data);
        }
        driver.abort();
        Ok(Answer::Open(String::from_utf8(said)?))
    }
}

/// What is asked of a tunnel.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// Where it shall lead.
    pub authority: &'a str,
    /// Whom the client claims to speak for.
    pub forwarded: Option<&'a str>,
}

impl<'a> Ask<'a> {
    /// For a target, and for nobody else.
    pub fn to(authority: &'a str) -> Self {
        Self { authority, forwarded: None }
    }
}

#[derive(Debug)]
struct TrustAnybody;

impl ServerCertVerifier for TrustAnybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
