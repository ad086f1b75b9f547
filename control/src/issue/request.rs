//! Checking a certificate signing request: only the key is taken from it, but it must not ask for anything else.

use rcgen::{CertificateSigningRequestParams, DnType, SanType, SubjectPublicKeyInfo};
use rustls_pki_types::{CertificateSigningRequestDer, pem::PemObject};
use weft_model::{Identity, clip};
use x509_parser::{certification_request::X509CertificationRequest, prelude::FromDer, public_key::PublicKey};

/// A request that asks for what it may, signed by the key that it carries.
#[derive(Debug)]
pub struct Checked {
    pub(super) public_key: SubjectPublicKeyInfo,
}

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadRequest {
    /// It is none.
    #[error("not a certificate signing request: {0}")]
    Unreadable(String),
    /// Whoever sent it does not have the key.
    #[error("the request is not signed by the key that it carries")]
    NotSigned,
    /// The key is too weak, or of a kind that is not in use here.
    #[error("the key must be ECDSA P-256 or P-384, Ed25519, or RSA of at least 2048 bits")]
    Key,
    /// It names a subject.
    #[error("the request must not carry a common name, but carries `{0}`")]
    CommonName(String),
    /// It names other things than the one identity.
    #[error("the request must carry exactly one name, the URI {expected}; it carries {found}")]
    Names {
        /// The identity asked for.
        expected: String,
        /// What the request names.
        found: String,
    },
    /// It asks to become an authority.
    #[error("the request asks for a CA certificate")]
    Authority,
}

/// Checks that `csr_pem` asks for `identity` and for nothing else.
pub fn check(csr_pem: &str, identity: &Identity) -> Result<Checked, BadRequest> {
    let unreadable = |e: &dyn std::fmt::Display| BadRequest::Unreadable(clip(e));
    let der = CertificateSigningRequestDer::from_pem_slice(csr_pem.as_bytes()).map_err(|e| unreadable(&e))?;
    // Verifies the signature: the proof that the sender has the key.
    let request = CertificateSigningRequestParams::from_der(&der).map_err(|e| match e {
        rcgen::Error::InvalidCertificationRequestSignature => BadRequest::NotSigned,
        e => unreadable(&e),
    })?;
    let params = &request.params;
    if let Some(name) = params.distinguished_name.get(&DnType::CommonName) {
        return Err(BadRequest::CommonName(clip(&format!("{name:?}"))));
    }
    if matches!(params.is_ca, rcgen::IsCa::Ca(_)) {
        return Err(BadRequest::Authority);
    }
    let expected = identity.to_string();
    match params.subject_alt_names.as_slice() {
        [SanType::URI(uri)] if uri.as_str() == expected => {}
        found => {
            return Err(BadRequest::Names { expected, found: clip(&format!("{found:?}")) });
        }
    }
    Ok(Checked { public_key: public_key(&der)? })
}

fn public_key(der: &CertificateSigningRequestDer<'_>) -> Result<SubjectPublicKeyInfo, BadRequest> {
    let (_, request) =
        X509CertificationRequest::from_der(der).map_err(|e| BadRequest::Unreadable(clip(&e)))?;
    let key = &request.certification_request_info.subject_pki;
    let sound = match key.parsed() {
        Ok(PublicKey::EC(point)) => matches!(point.key_size(), 256 | 384),
        Ok(PublicKey::RSA(rsa)) => (2048..=8192).contains(&rsa.key_size()),
        _ => key.algorithm.algorithm.to_id_string() == "1.3.101.112",
    };
    if !sound {
        return Err(BadRequest::Key);
    }
    SubjectPublicKeyInfo::from_der(key.raw).map_err(|_| BadRequest::Key)
}
