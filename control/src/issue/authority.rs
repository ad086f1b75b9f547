//! The signing certificate, its key, and the chain up to the root, on disk under the names that Istio gives them.

use super::{files::Files, request::Checked};
use aws_lc_rs::rand;
use rcgen::{
    CertificateParams, DistinguishedName, ExtendedKeyUsagePurpose, Issuer, KeyPair, KeyUsagePurpose, SanType,
    SerialNumber,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject};
use std::{
    io,
    path::PathBuf,
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
pub(crate) const SKEW: Duration = Duration::from_secs(120);

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
    /// How long both roots are trusted before the new one signs, and again before the old one is dropped.
    pub overlap: Duration,
}

/// Signs certificates.
pub struct Authority {
    /// The directory that it is kept in, unless that is a Secret.
    pub(super) dir: Option<PathBuf>,
    pub(super) lifetimes: Lifetimes,
    pub(super) trust_domain: String,
    /// Another one when it is renewed or its root changes; see `renew`.
    pub(super) signer: RwLock<Arc<Signer>>,
}

/// The signing certificate, with what belongs to it.
pub(crate) struct Signer {
    pub(super) issuer: Issuer<'static, KeyPair>,
    /// The signing certificate and those above it, the root excluded.
    pub(super) chain: Vec<String>,
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
    /// The authority that `files` make; whoever keeps them says when they change.
    pub(super) fn of(
        files: &Files,
        lifetimes: Lifetimes,
        trust_domain: &str,
    ) -> Result<Self, AuthorityError> {
        let signer = RwLock::new(Arc::new(Signer::new(files)?));
        Ok(Self { dir: None, lifetimes, trust_domain: trust_domain.to_owned(), signer })
    }

    /// Signs with what `files` make from now on; where they make nothing, what was there before stays.
    pub(super) fn follow(&self, files: &Files) -> Result<(), AuthorityError> {
        let signer = Arc::new(Signer::new(files)?);
        *self.signer.write().unwrap_or_else(PoisonError::into_inner) = signer;
        Ok(())
    }

    /// What signs now.
    pub(super) fn signer(&self) -> Arc<Signer> {
        self.signer.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Signer {
    /// What `files` make.
    pub(super) fn new(files: &Files) -> Result<Self, AuthorityError> {
        for file in [CA_CERT, CA_KEY, ROOT_CERT, CERT_CHAIN] {
            files.get(file)?;
        }
        let key_pair = files.key(CA_KEY)?;
        let signer = files.certificates(CA_CERT)?.swap_remove(0);
        let (_, parsed) = X509Certificate::from_der(&signer).map_err(|e| files.unusable(CA_CERT, e))?;
        if parsed.public_key().subject_public_key.data != key_pair.public_key_raw() {
            return Err(files.unusable(CA_CERT, format!("does not belong to the key in {CA_KEY}")));
        }
        if !parsed.is_ca() {
            return Err(files.unusable(CA_CERT, "is not a CA certificate"));
        }
        let made = parsed.validity().not_before.to_datetime() + SKEW;
        let not_after = parsed.validity().not_after.to_datetime();
        if not_after <= OffsetDateTime::now_utc() {
            return Err(AuthorityError::Expired(not_after));
        }
        let roots = files.certificates(ROOT_CERT)?;
        let above = files.certificates(CERT_CHAIN)?.into_iter().filter(|c| !roots.contains(c));
        let mut links = vec![signer.clone()];
        links.extend(above.filter(|c| *c != signer));
        links.retain(|c| !roots.contains(c));
        let issuer = Issuer::from_ca_cert_der(&signer, key_pair).map_err(|e| files.unusable(CA_CERT, e))?;
        let root = roots.iter().map(pem).collect();
        Ok(Self { issuer, chain: links.iter().map(pem).collect(), root, made, not_after })
    }
}

impl Authority {
    /// The root certificates, PEM.
    pub fn root_pem(&self) -> String {
        self.signer().root.clone()
    }

    /// Whether what signs is the same as when `seen` was taken; it is noted in `seen` where it is not.
    pub(crate) fn is_unchanged(&self, seen: &mut Option<Arc<Signer>>) -> bool {
        let now = self.signer();
        let same = seen.as_ref().is_some_and(|seen| Arc::ptr_eq(seen, &now));
        *seen = Some(now);
        same
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
    pub(super) fn params(
        &self,
        names: Vec<SanType>,
        validity: Duration,
    ) -> Result<CertificateParams, AuthorityError> {
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

/// The certificates in a text, or why there are none.
pub(super) fn certificates_in(text: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
    let found = found.map_err(|e| e.to_string())?;
    if found.is_empty() { Err("holds no certificate".to_owned()) } else { Ok(found) }
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
