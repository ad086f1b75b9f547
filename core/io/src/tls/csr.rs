//! Keys and certificate requests.

use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256, SanType};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use weft_model::Identity;

/// A fresh key and the request to certify it.
pub struct Request {
    /// The request in PEM: ECDSA P-256, one URI SAN, an empty subject.
    pub csr_pem: String,
    /// The private key; it never leaves this process.
    pub key: PrivateKeyDer<'static>,
}

/// Makes a key for `identity` and a request to certify it.
pub fn request(identity: &Identity) -> Result<Request, rcgen::Error> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = vec![SanType::URI(identity.to_string().try_into()?)];
    let csr_pem = params.serialize_request(&key)?.pem()?;
    let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
    Ok(Request { csr_pem, key })
}
