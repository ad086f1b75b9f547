//! The one TLS profile of the mesh: TLS 1.3, AES-GCM, a hybrid post-quantum key exchange first, ALPN `h2`, no SNI.

use super::verify::{ExpectClient, ExpectServer};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    client::Resumption,
    crypto::{CryptoProvider, aws_lc_rs},
    sign::{CertifiedKey, SingleCertAndKey},
    version::TLS13,
};
use std::sync::{Arc, LazyLock};
use weft_model::{Identity, Name};

/// The only protocol spoken inside the tunnels' TLS.
pub const ALPN: &[u8] = b"h2";

/// How many sessions one client configuration keeps for resumption; rustls keeps up to eight a server.
const CLIENT_SESSIONS: usize = 256;

static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
    Arc::new(CryptoProvider {
        cipher_suites: vec![
            aws_lc_rs::cipher_suite::TLS13_AES_256_GCM_SHA384,
            aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256,
        ],
        kx_groups: vec![
            aws_lc_rs::kx_group::X25519MLKEM768,
            aws_lc_rs::kx_group::X25519,
            aws_lc_rs::kx_group::SECP256R1,
            aws_lc_rs::kx_group::SECP384R1,
        ],
        ..aws_lc_rs::default_provider()
    })
});

/// The cryptography of the mesh: the cipher suites of HBONE, and X25519MLKEM768 before the classical groups.
pub fn provider() -> Arc<CryptoProvider> {
    PROVIDER.clone()
}

/// The client side of a tunnel to a server that is any one of `expected`.
///
/// Sessions are kept inside the configuration: rustls resumes one only under the same verifier, so a session made for one
/// set of identities, or with another certificate, is never used for another.
pub(super) fn client(
    key: Arc<CertifiedKey>,
    roots: Arc<RootCertStore>,
    expected: Arc<[Identity]>,
) -> Result<ClientConfig, rustls::Error> {
    let verifier = ExpectServer::new(roots, expected, provider());
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(key)));
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.enable_sni = false;
    config.enable_secret_extraction = true;
    config.resumption = Resumption::in_memory_sessions(CLIENT_SESSIONS);
    Ok(config)
}

/// The server side of a tunnel, for clients of any of `trust_domains`.
///
/// The ticket key belongs to this configuration alone: a ticket given by one workload, or before a rotation, is worth
/// nothing at another.
pub(super) fn server(
    key: Arc<CertifiedKey>,
    roots: Arc<RootCertStore>,
    trust_domains: Arc<[Name]>,
) -> Result<ServerConfig, rustls::Error> {
    let verifier = ExpectClient::new(roots, trust_domains, provider())
        .map_err(|e| rustls::Error::General(e.to_string()))?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(key)));
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.enable_secret_extraction = true;
    config.ticketer = aws_lc_rs::Ticketer::new()?;
    Ok(config)
}
