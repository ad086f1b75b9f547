//! The seam to whatever signs workload certificates.

use async_trait::async_trait;
use weft_model::Identity;

/// Signs certificate requests for workload identities.
#[async_trait]
pub trait CaClient: Send + Sync + 'static {
    /// Asks for a certificate of `identity` over the key that signed `csr_pem`.
    ///
    /// The answer is a list of PEM texts: the leaf first, the roots last (the shape of Istio's `CreateCertificate`).
    async fn issue(&self, identity: &Identity, csr_pem: &str) -> Result<Vec<String>, CaError>;
}

/// Why the certificate authority gave no certificate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CaError {
    /// The authority could not be reached, or did not answer in time; worth another try.
    #[error("the certificate authority cannot be reached: {0}")]
    Unavailable(String),
    /// The authority refuses this identity to this caller.
    #[error("the certificate authority refused: {0}")]
    Refused(String),
    /// The authority's answer makes no sense.
    #[error("the certificate authority answered wrongly: {0}")]
    BadAnswer(String),
}
