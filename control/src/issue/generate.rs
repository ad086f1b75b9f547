//! The first start: a root, and a signing certificate under it.

use super::{
    authority::{
        Authority, AuthorityError, CA_CERT, CA_KEY, CERT_CHAIN, Lifetimes, ROOT_CERT, SKEW, Signer, serial,
    },
    files::Files,
};
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
    sync::{Arc, RwLock},
    time::Duration,
};
use time::OffsetDateTime;

/// The root's key is kept for the day on which a new signing certificate is needed.
pub(super) const ROOT_KEY: &str = "root-key.pem";

impl Authority {
    /// The authority in `dir`; one is made where the directory is empty or missing.
    pub fn open(dir: &Path, lifetimes: Lifetimes, trust_domain: &str) -> Result<Self, AuthorityError> {
        if is_empty(dir)? {
            generate(dir, lifetimes, trust_domain)?;
            tracing::info!(dir = %dir.display(), "made a root and a signing certificate");
        }
        let signer = RwLock::new(Arc::new(Signer::new(&Files::read(dir)?)?));
        Ok(Self { dir: Some(dir.to_owned()), lifetimes, trust_domain: trust_domain.to_owned(), signer })
    }
}

fn is_empty(dir: &Path) -> Result<bool, AuthorityError> {
    match fs::read_dir(dir) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(cause) => Err(AuthorityError::Io { path: dir.to_owned(), cause }),
    }
}

/// A new authority: a root, and a signing certificate under it.
pub(super) fn make(origin: &Path, lifetimes: Lifetimes, trust_domain: &str) -> Result<Files, AuthorityError> {
    let (root_key, root) = root(lifetimes, trust_domain)?;
    let key = KeyPair::generate()?;
    let issuer = Issuer::from_ca_cert_der(root.der(), &root_key)?;
    let ca: Certificate = intermediate(trust_domain, lifetimes)?.signed_by(&key, &issuer)?;
    let mut files = Files::new(origin);
    files.put(ROOT_KEY, root_key.serialize_pem());
    files.put(ROOT_CERT, root.pem());
    files.put(CA_KEY, key.serialize_pem());
    files.put(CA_CERT, ca.pem());
    files.put(CERT_CHAIN, ca.pem() + &root.pem());
    Ok(files)
}

/// A new root and its key.
pub(super) fn root(
    lifetimes: Lifetimes,
    trust_domain: &str,
) -> Result<(KeyPair, Certificate), AuthorityError> {
    let key = KeyPair::generate()?;
    let root = params("Weft root", trust_domain, lifetimes.root, None)?.self_signed(&key)?;
    Ok((key, root))
}

/// Fills `dir`. It is filled under another name and then moved, so that an interrupted start leaves no half authority.
fn generate(dir: &Path, lifetimes: Lifetimes, trust_domain: &str) -> Result<(), AuthorityError> {
    let files = make(dir, lifetimes, trust_domain)?;
    let fresh = dir.with_extension("new");
    let failed = |path: &Path, cause| AuthorityError::Io { path: path.to_owned(), cause };
    if fresh.exists() {
        fs::remove_dir_all(&fresh).map_err(|e| failed(&fresh, e))?;
    }
    DirBuilder::new().recursive(true).mode(0o700).create(&fresh).map_err(|e| failed(&fresh, e))?;
    let written = files.texts.iter().try_for_each(|(file, text)| {
        let path = fresh.join(file);
        let mode = if file.ends_with("key.pem") { 0o600 } else { 0o644 };
        write(&path, text, mode).map_err(|e| failed(&path, e))
    });
    let placed = written.and_then(|()| fs::rename(&fresh, dir).map_err(|e| failed(dir, e)));
    if placed.is_err() {
        // Half an authority is of no use; that it cannot be removed changes nothing, the next start removes it.
        let _ = fs::remove_dir_all(&fresh);
    }
    placed
}

/// The signing certificate, but for its key and its signature.
pub(super) fn intermediate(
    trust_domain: &str,
    lifetimes: Lifetimes,
) -> Result<CertificateParams, AuthorityError> {
    params("Weft intermediate", trust_domain, lifetimes.intermediate, Some(0))
}

fn write(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn params(
    name: &str,
    trust_domain: &str,
    lifetime: Duration,
    below: Option<u8>,
) -> Result<CertificateParams, AuthorityError> {
    let now = OffsetDateTime::now_utc();
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, trust_domain);
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = now - SKEW;
    params.not_after = now + lifetime;
    params.serial_number = Some(serial()?);
    params.use_authority_key_identifier_extension = below.is_some();
    params.is_ca = IsCa::Ca(below.map_or(BasicConstraints::Unconstrained, BasicConstraints::Constrained));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}
