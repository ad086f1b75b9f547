//! Reading the SPIFFE identity out of a certificate.

use rustls::pki_types::CertificateDer;
use weft_model::{Identity, Name, clip};
use x509_parser::{extensions::GeneralName, prelude::FromDer, prelude::X509Certificate};

/// What is wrong with the identity that a peer's certificate carries.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpiffeError {
    /// The certificate is not readable X.509.
    #[error("the peer's certificate cannot be read: {0}")]
    Unreadable(String),
    /// The certificate names no URI.
    #[error("the peer's certificate carries no SPIFFE identity")]
    NoIdentity,
    /// A SPIFFE certificate has exactly one URI (X.509-SVID, section 2).
    #[error("the peer's certificate carries {0} URIs where SPIFFE allows exactly one")]
    SeveralUris(usize),
    /// The URI is not an identity of a Kubernetes mesh.
    #[error(transparent)]
    NotAnIdentity(#[from] weft_model::identity::NotAnIdentity),
    /// The server is somebody else than the client wants to talk to.
    #[error("the peer has the wrong identity: expected {}, got {got}", list(.expected))]
    WrongIdentity {
        /// Who was expected: any one of these.
        expected: Vec<Identity>,
        /// Who answered.
        got: Identity,
    },
    /// The client belongs to a trust domain that is not trusted here.
    #[error("the peer {got} is of a foreign trust domain: this mesh trusts {}", list(.trusted))]
    ForeignTrustDomain {
        /// The trust domains that are accepted.
        trusted: Vec<Name>,
        /// Who asked.
        got: Identity,
    },
}

fn list<T: ToString>(items: &[T]) -> String {
    let names: Vec<_> = items.iter().map(T::to_string).collect();
    if names.is_empty() { "nobody".into() } else { names.join(" or ") }
}

/// The one SPIFFE identity of `certificate`.
pub fn identity_of(certificate: &CertificateDer<'_>) -> Result<Identity, SpiffeError> {
    let (_, parsed) =
        X509Certificate::from_der(certificate).map_err(|e| SpiffeError::Unreadable(clip(&e)))?;
    let names = parsed.subject_alternative_name().map_err(|e| SpiffeError::Unreadable(clip(&e)))?;
    let uris: Vec<&str> = names
        .iter()
        .flat_map(|extension| &extension.value.general_names)
        .filter_map(|name| match name {
            GeneralName::URI(uri) => Some(*uri),
            _ => None,
        })
        .collect();
    match uris[..] {
        [] => Err(SpiffeError::NoIdentity),
        [uri] => Ok(uri.parse()?),
        _ => Err(SpiffeError::SeveralUris(uris.len())),
    }
}
