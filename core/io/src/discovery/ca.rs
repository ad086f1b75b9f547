//! The client of Istio's certificate service.

use super::{
    endpoint::{ControlEndpoint, EndpointError},
    proto::auth::{IstioCertificateRequest, istio_certificate_service_client::IstioCertificateServiceClient},
};
use crate::tls::{CaClient, CaError};
use async_trait::async_trait;
use prost_types::{Struct, Value, value};
use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tonic::{Code, Request, transport::Channel};
use weft_model::Identity;

/// The key under which a node proxy names the workload that it asks for.
pub const IMPERSONATED_IDENTITY: &str = "ImpersonatedIdentity";

/// How long the server may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Asks the control plane for workload certificates.
#[derive(Debug)]
pub struct DiscoveryCa {
    endpoint: ControlEndpoint,
    /// The validity to ask for; `None` leaves it to the server.
    validity: Option<Duration>,
    /// Opened at the first request, dropped when it fails, so that rotated roots are read.
    channel: Mutex<Option<Channel>>,
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// The control plane was not reached.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// It said no, or failed.
    #[error("the certificate service answers {:?}: {}", .0.code(), .0.message())]
    Refused(Box<tonic::Status>),
    /// It answered without a certificate.
    #[error("the certificate service sent {0} certificates; a leaf and a root are the least")]
    Incomplete(usize),
}

impl DiscoveryCa {
    /// A client of the certificate service at `endpoint`.
    pub fn new(endpoint: ControlEndpoint, validity: Option<Duration>) -> Self {
        Self { endpoint, validity, channel: Mutex::default() }
    }

    /// Has the key that signed `csr_pem` certified as `identity`. Answers PEM certificates, leaf first, root last.
    pub async fn issue(&self, identity: &Identity, csr_pem: &str) -> Result<Vec<String>, IssueError> {
        let fields = [(
            IMPERSONATED_IDENTITY.to_owned(),
            Value { kind: Some(value::Kind::StringValue(identity.to_string())) },
        )];
        let mut request = Request::new(IstioCertificateRequest {
            csr: csr_pem.to_owned(),
            validity_duration: self.validity.map_or(0, |v| i64::try_from(v.as_secs()).unwrap_or(i64::MAX)),
            metadata: Some(Struct { fields: fields.into() }),
        });
        request.set_timeout(TIMEOUT);
        self.endpoint.authorize(&mut request).await?;
        let mut client = IstioCertificateServiceClient::new(self.channel().await?);
        // Whoever waits for this may give up: the next request must not wait on the same dead connection.
        let unanswered = Unanswered(Some(self));
        let answer = client.create_certificate(request).await;
        unanswered.answered();
        match answer {
            Ok(answer) => {
                let chain = answer.into_inner().cert_chain;
                if chain.len() < 2 { Err(IssueError::Incomplete(chain.len())) } else { Ok(chain) }
            }
            Err(status) => {
                if matches!(status.code(), Code::Unavailable | Code::Unknown | Code::DeadlineExceeded) {
                    self.keep(None);
                }
                Err(IssueError::Refused(Box::new(status)))
            }
        }
    }

    async fn channel(&self) -> Result<Channel, EndpointError> {
        let open = self.channel.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(channel) = open {
            return Ok(channel);
        }
        let channel = self.endpoint.connect().await?;
        self.keep(Some(channel.clone()));
        Ok(channel)
    }

    fn keep(&self, channel: Option<Channel>) {
        *self.channel.lock().unwrap_or_else(PoisonError::into_inner) = channel;
    }
}

/// A request that has no answer yet. Dropped like that, it takes the connection with it.
struct Unanswered<'a>(Option<&'a DiscoveryCa>);

impl Unanswered<'_> {
    fn answered(mut self) {
        self.0 = None;
    }
}

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        if let Some(ca) = self.0 {
            ca.keep(None);
        }
    }
}

#[async_trait]
impl CaClient for DiscoveryCa {
    async fn issue(&self, identity: &Identity, csr_pem: &str) -> Result<Vec<String>, CaError> {
        DiscoveryCa::issue(self, identity, csr_pem).await.map_err(CaError::from)
    }
}

impl From<IssueError> for CaError {
    fn from(error: IssueError) -> Self {
        let text = error.to_string();
        match error {
            IssueError::Endpoint(_) => CaError::Unavailable(text),
            IssueError::Incomplete(_) => CaError::BadAnswer(text),
            IssueError::Refused(status) => match status.code() {
                Code::PermissionDenied | Code::Unauthenticated | Code::InvalidArgument => {
                    CaError::Refused(text)
                }
                _ => CaError::Unavailable(text),
            },
        }
    }
}
