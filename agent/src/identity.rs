//! The workloads' certificates, from the control plane's certificate service.

use async_trait::async_trait;
use weft_io::{
    discovery::{DiscoveryCa, ca::IssueError},
    tls::{CaClient, CaError},
};
use weft_model::Identity;

/// The control plane as the certificate manager wants it.
pub struct ControlCa(pub DiscoveryCa);

#[async_trait]
impl CaClient for ControlCa {
    async fn issue(&self, identity: &Identity, csr_pem: &str) -> Result<Vec<String>, CaError> {
        self.0.issue(identity, csr_pem).await.map_err(|error| match &error {
            IssueError::Endpoint(_) => CaError::Unavailable(error.to_string()),
            IssueError::Refused(_) => CaError::Refused(error.to_string()),
            IssueError::Incomplete(_) => CaError::BadAnswer(error.to_string()),
        })
    }
}
