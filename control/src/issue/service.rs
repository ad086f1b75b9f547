//! `istio.v1.auth.IstioCertificateService`.

use super::{Authority, AuthorityError, Placement, check};
use crate::{
    metrics::{IssueResult, Metrics},
    serve::auth::Authenticator,
};
use prost_types::value;
use std::{sync::Arc, time::Duration};
use tonic::{Request, Response, Status};
use weft_io::discovery::{
    ca::IMPERSONATED_IDENTITY,
    proto::auth::{
        IstioCertificateRequest, IstioCertificateResponse,
        istio_certificate_service_server::IstioCertificateService,
    },
};
use weft_model::Identity;

/// Answers certificate requests of nodes.
pub struct Issuer {
    /// Signs.
    pub authority: Arc<Authority>,
    /// Says what runs where.
    pub placement: Arc<Placement>,
    /// Says who asks.
    pub authenticator: Arc<dyn Authenticator>,
    /// The trust domain of every identity.
    pub trust_domain: String,
    /// Counts.
    pub metrics: Arc<Metrics>,
}

#[tonic::async_trait]
impl IstioCertificateService for Issuer {
    async fn create_certificate(
        &self,
        request: Request<IstioCertificateRequest>,
    ) -> Result<Response<IstioCertificateResponse>, Status> {
        let answer = self.answer(request).await;
        let result = match &answer {
            Ok(_) => IssueResult::Issued,
            Err(status) => {
                tracing::warn!(code = ?status.code(), reason = status.message(), "certificate refused");
                IssueResult::Refused
            }
        };
        self.metrics.certificates(result);
        answer.map(|cert_chain| Response::new(IstioCertificateResponse { cert_chain }))
    }
}

impl Issuer {
    async fn answer(&self, request: Request<IstioCertificateRequest>) -> Result<Vec<String>, Status> {
        let caller = self.authenticator.authenticate(request.metadata()).await?;
        let request = request.into_inner();
        let fields = request.metadata.as_ref().map(|m| &m.fields);
        let asked = fields.and_then(|f| f.get(IMPERSONATED_IDENTITY)).and_then(|v| match &v.kind {
            Some(value::Kind::StringValue(s)) => Some(s.as_str()),
            _ => None,
        });
        let asked = asked.ok_or_else(|| {
            Status::invalid_argument(format!("the request's metadata must name the {IMPERSONATED_IDENTITY}"))
        })?;
        let identity: Identity = asked
            .parse()
            .map_err(|e: weft_model::identity::NotAnIdentity| Status::invalid_argument(e.to_string()))?;
        let node = &caller.node;
        if *identity.trust_domain != *self.trust_domain {
            return Err(Status::permission_denied(format!(
                "{identity} is not of this mesh's trust domain {}",
                self.trust_domain
            )));
        }
        if !self.placement.runs_on(&identity, node) {
            return Err(Status::permission_denied(format!(
                "node {node} may not have a certificate of {identity}: no workload of it runs there"
            )));
        }
        let checked = check(&request.csr, &identity).map_err(|e| Status::invalid_argument(e.to_string()))?;
        let validity =
            u64::try_from(request.validity_duration).ok().filter(|s| *s > 0).map(Duration::from_secs);
        let chain = self.authority.sign(&identity, &checked, validity).map_err(|e| match e {
            AuthorityError::Expired(_) => Status::unavailable(e.to_string()),
            e => {
                tracing::error!(error = %e, "signing failed");
                Status::internal("signing failed; control's log says why")
            }
        })?;
        tracing::debug!(%identity, %node, "certificate issued");
        Ok(chain)
    }
}
