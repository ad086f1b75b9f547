//! The signing certificate, its key, and the chain up to the root, on disk under the names that Istio gives them.

use super::{generate, request::Checked};
use aws_lc_rs::rand;
use rcgen::{
    CertificateParams, DistinguishedName, ExtendedKeyUsagePurpose, Issuer, KeyPair, KeyUsagePurpose, SanType,
    SerialNumber,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject};
use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};
use time::OffsetDateTime;
use weft_io::told::file_mend;
use weft_model::Identity;
use x509_parser::prelude::{FromDer, X509Certificate};

pub(super) const CA_CERT: &str = "ca-cert.pem";
pub(super) const CA_KEY: &str = "ca-key.pem";
pub(super) const ROOT_CERT: &str = "root-cert.pem";
pub(super) const CERT_CHAIN: &str = "cert-chain.pem";

/// Clocks of nodes differ; a certificate is valid since a little while before it was made.
pub(super) const SKEW: Duration = Duration::from_secs(120);

/// How long certificates live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetimes {
    /// Of a workload's certificate, where the node asks for none.
    pub leaf: Duration,
    /// The most that a node may ask for.
    pub leaf_max: Duration,
    /// Of the root that is made at the first start.
    pub root: Duration,
    /// Of the signing certificate that is made at the first start.
    pub intermediate: Duration,
}

/// Signs certificates.
pub struct Authority {
    pub(super) dir: PathBuf,
    pub(super) lifetimes: Lifetimes,
    pub(super) trust_domain: String,
    /// Another one when it is renewed; see `renew`.
    pub(super) signer: RwLock<Arc<Signer>>,
}

/// The signing certificate, with what belongs to it.
pub(super) struct Signer {
    issuer: Issuer<'static, KeyPair>,
    /// The signing certificate and those above it, the root excluded.
    chain: Vec<String>,
    root: String,
    /// When it was made.
    pub(super) made: OffsetDateTime,
    pub(super) not_after: OffsetDateTime,
}

/// Why there is no authority, or no certificate from it.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// A file cannot be read or written.
    #[error("{path}: {cause}{mend}", path = path.display(), mend = file_mend(cause))]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// Some of the files are there, others are not.
    #[error(
        "{dir} has no {file}; it must hold {CA_CERT}, {CA_KEY}, {ROOT_CERT} and {CERT_CHAIN}, or be empty"
    )]
    Incomplete {
        /// The directory.
        dir: PathBuf,
        /// What is missing.
        file: &'static str,
    },
    /// A file does not hold what it should.
    #[error("{path}: {what}")]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The key of the authority may be read by others.
    #[error("{path} may be read by others than its owner (mode {mode:o}); chmod 600 it")]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// Signing failed.
    #[error("signing: {0}")]
    Signing(#[from] rcgen::Error),
    /// The signing certificate is over.
    #[error("the signing certificate expired at {0}; replace it")]
    Expired(OffsetDateTime),
    /// The signing certificate cannot be renewed here.
    #[error(
        "{dir} has no {file} to renew the signing certificate with; put another {CA_CERT}, {CA_KEY} and {CERT_CHAIN} in \
         place, and start control again",
        dir = dir.display()
    )]
    NoRootKey {
        /// The directory.
        dir: PathBuf,
        /// What is missing.
        file: &'static str,
    },
}

impl Authority {
    /// The authority in `dir`; one is made where the directory is empty or missing.
    pub fn open(dir: &Path, lifetimes: Lifetimes, trust_domain: &str) -> Result<Self, AuthorityError> {
        if generate::is_empty(dir)? {
            generate::generate(dir, lifetimes, trust_domain)?;
            tracing::info!(dir = %dir.display(), "made a root and a signing certificate");
        }
        let signer = RwLock::new(Arc::new(Signer::load(dir)?));
        Ok(Self { dir: dir.to_owned(), lifetimes, trust_domain: trust_domain.to_owned(), signer })
    }

    /// What signs now.
    pub(super) fn signer(&self) -> Arc<Signer> {
        self.signer.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Signer {
    /// What the files in `dir` make.
    pub(super) fn load(dir: &Path) -> Result<Self, AuthorityError> {
        let [cert, key, root, chain] = [CA_CERT, CA_KEY, ROOT_CERT, CERT_CHAIN].map(|file| dir.join(file));
        for (file, path) in [(CA_CERT, &cert), (CA_KEY, &key), (ROOT_CERT, &root), (CERT_CHAIN, &chain)] {
            if !path.exists() {
                return Err(AuthorityError::Incomplete { dir: dir.to_owned(), file });
            }
        }
        refuse_exposed(&key)?;
        let unusable = |path: &Path, what: String| AuthorityError::Unusable { path: path.to_owned(), what };
        let key_pair = KeyPair::from_pem(&read(&key)?).map_err(|e| unusable(&key, e.to_string()))?;
        let signer = certificates(&cert)?.swap_remove(0);
        let (_, parsed) = X509Certificate::from_der(&signer).map_err(|e| unusable(&cert, e.to_string()))?;
        if parsed.public_key().subject_public_key.data != key_pair.public_key_raw() {
            return Err(unusable(&cert, format!("does not belong to the key in {CA_KEY}")));
        }
        if !parsed.is_ca() {
            return Err(unusable(&cert, "is not a CA certificate".to_owned()));
        }
        let made = parsed.validity().not_before.to_datetime() + SKEW;
        let not_after = parsed.validity().not_after.to_datetime();
        if not_after <= OffsetDateTime::now_utc() {
            return Err(AuthorityError::Expired(not_after));
        }
        let roots = certificates(&root)?;
        let above = certificates(&chain)?.into_iter().filter(|c| !roots.contains(c));
        let mut links = vec![signer.clone()];
        links.extend(above.filter(|c| *c != signer));
        links.retain(|c| !roots.contains(c));
        let issuer =
            Issuer::from_ca_cert_der(&signer, key_pair).map_err(|e| unusable(&cert, e.to_string()))?;
        let root = roots.iter().map(pem).collect();
        Ok(Self { issuer, chain: links.iter().map(pem).collect(), root, made, not_after })
    }
}

impl Authority {
    /// The root certificates, PEM.
    pub fn root_pem(&self) -> String {
        self.signer().root.clone()
    }

    /// When the signing certificate ends.
    pub fn not_after(&self) -> OffsetDateTime {
        self.signer().not_after
    }

    /// Certifies a checked request as `identity`: PEM certificates, leaf first, roots last.
    pub fn sign(
        &self,
        identity: &Identity,
        request: &Checked,
        validity: Option<Duration>,
    ) -> Result<Vec<String>, AuthorityError> {
        let validity = validity.unwrap_or(self.lifetimes.leaf).min(self.lifetimes.leaf_max);
        let san = SanType::URI(identity.to_string().try_into()?);
        let signer = self.signer();
        let leaf = signer.params(vec![san], validity)?.signed_by(&request.public_key, &signer.issuer)?;
        let mut answer = vec![leaf.pem()];
        answer.extend(signer.chain.iter().cloned());
        answer.push(signer.root.clone());
        Ok(answer)
    }

    /// A certificate for the control plane's own port, its key, and for how long it is valid.
    pub fn server(
        &self,
        names: Vec<SanType>,
        validity: Duration,
    ) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>, Duration), AuthorityError> {
        let (key, signer) = (KeyPair::generate()?, self.signer());
        let params = signer.params(names, validity)?;
        let valid = Duration::try_from(params.not_after - OffsetDateTime::now_utc()).unwrap_or_default();
        let leaf = params.signed_by(&key, &signer.issuer)?;
        let mut chain = vec![leaf.der().clone()];
        for link in &signer.chain {
            chain.extend(CertificateDer::from_pem_slice(link.as_bytes()).ok());
        }
        Ok((chain, PrivatePkcs8KeyDer::from(key.serialize_der()).into(), valid))
    }
}

impl Signer {
    fn params(&self, names: Vec<SanType>, validity: Duration) -> Result<CertificateParams, AuthorityError> {
        let now = OffsetDateTime::now_utc();
        if now >= self.not_after {
            return Err(AuthorityError::Expired(self.not_after));
        }
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = names;
        params.not_before = now - SKEW;
        params.not_after = (now + validity).min(self.not_after);
        params.serial_number = Some(serial()?);
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        Ok(params)
    }
}

/// A serial number that nobody can guess and that is positive.
pub(super) fn serial() -> Result<SerialNumber, rcgen::Error> {
    let mut bytes = [0; 16];
    rand::fill(&mut bytes).map_err(|_| rcgen::Error::RingUnspecified)?;
    bytes[0] &= 0x7f;
    Ok(SerialNumber::from_slice(&bytes))
}

fn refuse_exposed(key: &Path) -> Result<(), AuthorityError> {
    use std::os::unix::fs::PermissionsExt;
    let meta = fs::metadata(key).map_err(|cause| AuthorityError::Io { path: key.to_owned(), cause })?;
    let mode = meta.permissions().mode() & 0o777;
    // The group may read: that is how Kubernetes mounts a secret for a process that is not root.
    if mode & 0o007 != 0 { Err(AuthorityError::Exposed { path: key.to_owned(), mode }) } else { Ok(()) }
}

pub(super) fn read(path: &Path) -> Result<String, AuthorityError> {
    fs::read_to_string(path).map_err(|cause| AuthorityError::Io { path: path.to_owned(), cause })
}

pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, AuthorityError> {
    let unusable = |what: String| AuthorityError::Unusable { path: path.to_owned(), what };
    let text = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
    let found = found.map_err(|e| unusable(e.to_string()))?;
    if found.is_empty() { Err(unusable("holds no certificate".to_owned())) } else { Ok(found) }
}

pub(super) fn pem(certificate: &CertificateDer<'static>) -> String {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let body = STANDARD.encode(certificate);
    let mut text = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in body.as_bytes().chunks(64) {
        text.extend(line.iter().map(|b| char::from(*b)));
        text.push('\n');
    }
    text.push_str("-----END CERTIFICATE-----\n");
    text
}

#[cfg(test)]
mod tests;
