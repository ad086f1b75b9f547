//! The cluster's keys: one authority, a certificate for each of its programs, a key for service account tokens.

use crate::files;
use anyhow::Result;
use base64::{Engine, prelude::BASE64_STANDARD};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};
use std::path::{Path, PathBuf};
use time::{Duration, OffsetDateTime};

/// A directory of keys and certificates in PEM.
#[derive(Clone, Debug)]
pub(crate) struct Pki {
    directory: PathBuf,
}

/// Whom a certificate is for.
pub(crate) struct Subject<'a> {
    /// The file's name, and a user's where `user` says none.
    pub name: &'a str,
    /// The user that the API server sees in it.
    pub user: &'a str,
    /// The group that the API server sees in it.
    pub group: Option<&'a str>,
    /// Names and addresses under which it serves.
    pub hosts: Vec<String>,
}

impl Pki {
    /// The keys in `directory`; the authority and the key for tokens are made where they are not there yet.
    pub(crate) fn open(directory: &Path) -> Result<Self> {
        let pki = Self { directory: directory.to_owned() };
        if !pki.authority().exists() {
            let key = KeyPair::generate()?;
            let mut params = params("weft-cluster");
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
            let certificate = params.self_signed(&key)?;
            files::write_secret(&pki.key("ca"), key.serialize_pem())?;
            let tokens = KeyPair::generate()?;
            files::write_secret(&pki.key("tokens"), tokens.serialize_pem())?;
            files::write(&pki.public_key("tokens"), tokens.public_key_pem())?;
            // Last: its presence says that the rest is there.
            files::write(&pki.authority(), certificate.pem())?;
        }
        Ok(pki)
    }

    /// The authority's certificate.
    pub(crate) fn authority(&self) -> PathBuf {
        self.certificate("ca")
    }

    /// The certificate called `name`.
    pub(crate) fn certificate(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{name}.crt"))
    }

    /// The key called `name`.
    pub(crate) fn key(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{name}.key"))
    }

    /// The public key of the key called `name`, where that has no certificate.
    pub(crate) fn public_key(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{name}.pub"))
    }

    /// Issues a certificate where it is not there yet.
    pub(crate) fn issue(&self, subject: &Subject<'_>) -> Result<()> {
        let (certificate, key_file) = (self.certificate(subject.name), self.key(subject.name));
        if certificate.exists() {
            return Ok(());
        }
        let authority_key = KeyPair::from_pem(&files::read(&self.key("ca"))?)?;
        let issuer = Issuer::from_ca_cert_pem(&files::read(&self.authority())?, authority_key)?;
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(subject.hosts.clone())?;
        let base = self::params(subject.user);
        (params.not_before, params.not_after) = (base.not_before, base.not_after);
        params.distinguished_name = base.distinguished_name;
        if let Some(group) = subject.group {
            params.distinguished_name.push(DnType::OrganizationName, group);
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        let signed = params.signed_by(&key, &issuer)?;
        files::write_secret(&key_file, key.serialize_pem())?;
        files::write(&certificate, signed.pem())
    }

    /// A kubeconfig for the certificate called `name`, with everything in it, so that it can be moved.
    pub(crate) fn kubeconfig(&self, name: &str, server: &str) -> Result<String> {
        let data = |path: PathBuf| -> Result<String> { Ok(BASE64_STANDARD.encode(files::read(&path)?)) };
        let config = serde_json::json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "weft",
            "clusters": [{"name": "weft", "cluster": {
                "server": server,
                "certificate-authority-data": data(self.authority())?,
            }}],
            "users": [{"name": name, "user": {
                "client-certificate-data": data(self.certificate(name))?,
                "client-key-data": data(self.key(name))?,
            }}],
            "contexts": [{"name": "weft", "context": {"cluster": "weft", "user": name}}],
        });
        Ok(serde_json::to_string_pretty(&config)?)
    }
}

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    let now = OffsetDateTime::now_utc();
    (params.not_before, params.not_after) = (now - Duration::hours(1), now + Duration::days(365));
    params
}
