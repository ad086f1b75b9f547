//! A workload's certificate, and the TLS configurations made from it.

use super::{
    config,
    spiffe::{SpiffeError, identity_of},
};
use rustc_hash::FxHashMap;
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};
use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};
use weft_model::{Identity, Name, clip};
use x509_parser::prelude::{FromDer, X509Certificate};
use zeroize::Zeroize;

/// How many sets of expected identities keep a client configuration before the store starts over.
const CLIENT_CONFIGS: usize = 1024;

/// Why a chain cannot serve as a workload's certificate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadCertificate {
    /// A text of the chain is not PEM.
    #[error("the chain is not PEM: {0}")]
    NotPem(String),
    /// The chain has no leaf, or no root.
    #[error("the chain needs a leaf first and a root last; it has {0} parts")]
    Incomplete(usize),
    /// A root cannot be used as a trust anchor.
    #[error("a root of the chain cannot be used: {0}")]
    BadRoot(String),
    /// The leaf's identity cannot be read.
    #[error(transparent)]
    Identity(#[from] SpiffeError),
    /// The leaf names somebody else.
    #[error("the certificate is for {got}, where {wanted} was asked")]
    OtherIdentity {
        /// The identity that was asked for.
        wanted: Identity,
        /// The identity that the leaf carries.
        got: Identity,
    },
    /// The leaf and the key do not belong together, or the key cannot be used.
    #[error("the certificate and its key cannot be used: {0}")]
    Unusable(String),
}

/// A certificate with its key, its roots, and the TLS configurations made from them.
///
/// Immutable: rotation makes a new value for new connections; connections that live keep the one they began with.
pub struct WorkloadCert {
    identity: Identity,
    not_before: SystemTime,
    not_after: SystemTime,
    serial: String,
    key: Arc<CertifiedKey>,
    roots: Arc<RootCertStore>,
    server: Arc<ServerConfig>,
    clients: Mutex<FxHashMap<Arc<[Identity]>, Arc<ClientConfig>>>,
    parts: Parts,
}

impl Drop for WorkloadCert {
    fn drop(&mut self) {
        self.parts.key.zeroize();
    }
}

/// What a certificate was made from, for the process that follows this one. It holds the private key.
pub struct Parts {
    /// The private key.
    pub key: PrivateKeyDer<'static>,
    /// The authority's answer in PEM: the leaf first, the roots last.
    pub chain: Vec<String>,
}

impl WorkloadCert {
    /// The certificate of `identity` from a CA's answer (`chain`: the leaf first, the roots last) and its `key`.
    ///
    /// Clients of the identity's own trust domain and of `aliases` will be accepted.
    pub fn new(
        identity: Identity,
        key: PrivateKeyDer<'static>,
        chain: &[String],
        aliases: &[Name],
    ) -> Result<Self, BadCertificate> {
        let parts = Parts { key: key.clone_key(), chain: chain.to_vec() };
        let (chain, roots) = split_chain(chain)?;
        let leaf = chain.first().ok_or(BadCertificate::Incomplete(0))?;
        let got = identity_of(leaf)?;
        if got != identity {
            return Err(BadCertificate::OtherIdentity { wanted: identity, got });
        }
        let (not_before, not_after, serial) = facts(leaf)?;
        let unusable = |e: rustls::Error| BadCertificate::Unusable(clip(&e));
        let key = Arc::new(CertifiedKey::from_der(chain, key, &config::provider()).map_err(unusable)?);
        let roots = Arc::new(roots);
        let mut trusted = vec![identity.trust_domain.clone()];
        trusted.extend(aliases.iter().filter(|a| **a != identity.trust_domain).cloned());
        let server = config::server(key.clone(), roots.clone(), trusted.into()).map_err(unusable)?;
        let server = Arc::new(server);
        let clients = Mutex::default();
        Ok(Self { identity, not_before, not_after, serial, key, roots, server, clients, parts })
    }

    /// Whose certificate this is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// What it was made from; only for handing it over to the process that follows this one.
    pub fn parts(&self) -> &Parts {
        &self.parts
    }

    /// The start of its validity.
    pub fn not_before(&self) -> SystemTime {
        self.not_before
    }

    /// The end of its validity.
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }

    /// The serial number in lower-case hexadecimal.
    pub fn serial(&self) -> &str {
        &self.serial
    }

    /// The middle of its validity: from then on a new one should be at hand.
    pub fn half_life(&self) -> SystemTime {
        let life = self.not_after.duration_since(self.not_before).unwrap_or_default();
        self.not_before + life / 2
    }

    /// Whether it can still be shown to a peer at `now`.
    pub fn is_valid_at(&self, now: SystemTime) -> bool {
        now < self.not_after
    }

    /// The server side, to be used by the listener of this workload.
    pub fn server_config(&self) -> Arc<ServerConfig> {
        self.server.clone()
    }

    /// The client side towards a server that is any one of `expected`; kept, so that sessions can be resumed.
    pub fn client_config(&self, expected: &Arc<[Identity]>) -> Result<Arc<ClientConfig>, BadCertificate> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(config) = clients.get(expected) {
            return Ok(config.clone());
        }
        let config = config::client(self.key.clone(), self.roots.clone(), expected.clone())
            .map_err(|e| BadCertificate::Unusable(clip(&e)))?;
        if clients.len() >= CLIENT_CONFIGS {
            clients.clear();
        }
        let config = Arc::new(config);
        clients.insert(expected.clone(), config.clone());
        Ok(config)
    }
}

impl fmt::Debug for WorkloadCert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkloadCert")
            .field("identity", &self.identity.to_string())
            .field("serial", &self.serial)
            .field("not_before", &self.not_before)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, BadCertificate> {
    CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|e| BadCertificate::NotPem(clip(&e)))
}

/// The chain to send (leaf and intermediates) and the roots to trust.
fn split_chain(texts: &[String]) -> Result<(Vec<CertificateDer<'static>>, RootCertStore), BadCertificate> {
    let [to_send @ .., last] = texts else { return Err(BadCertificate::Incomplete(0)) };
    let mut chain = Vec::new();
    for text in to_send {
        chain.extend(certificates(text)?);
    }
    let mut roots = RootCertStore::empty();
    for root in certificates(last)? {
        roots.add(root).map_err(|e| BadCertificate::BadRoot(clip(&e)))?;
    }
    if chain.is_empty() || roots.is_empty() {
        return Err(BadCertificate::Incomplete(chain.len() + roots.len()));
    }
    Ok((chain, roots))
}

fn facts(leaf: &CertificateDer<'_>) -> Result<(SystemTime, SystemTime, String), BadCertificate> {
    let (_, leaf) = X509Certificate::from_der(leaf).map_err(|e| BadCertificate::Unusable(clip(&e)))?;
    let at = |t: i64| SystemTime::UNIX_EPOCH + Duration::from_secs(t.max(0).unsigned_abs());
    let validity = leaf.validity();
    let serial = leaf.raw_serial().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok((at(validity.not_before.timestamp()), at(validity.not_after.timestamp()), serial))
}
