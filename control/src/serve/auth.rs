//! Who is asking.

use crate::metrics::Metrics;
use std::sync::Arc;
use tonic::{Code, Status, metadata::MetadataMap};

/// A node proxy that said who it is and could prove it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The node that it serves.
    pub node: String,
}

/// Tells from a request's metadata who asks.
#[tonic::async_trait]
pub trait Authenticator: Send + Sync + 'static {
    /// The caller, or why nobody knows it.
    async fn authenticate(&self, metadata: &MetadataMap) -> Result<Caller, Status>;
}

/// Counts whom another one turns away.
pub struct Counted {
    /// The other one.
    pub inner: Arc<dyn Authenticator>,
    /// Counts.
    pub metrics: Arc<Metrics>,
}

#[tonic::async_trait]
impl Authenticator for Counted {
    async fn authenticate(&self, metadata: &MetadataMap) -> Result<Caller, Status> {
        let answer = self.inner.authenticate(metadata).await;
        if let Err(status) = &answer {
            self.metrics.turned_away(match status.code() {
                Code::Unauthenticated => "refused",
                _ => "unknown",
            });
        }
        answer
    }
}

/// The token that a request carries.
pub(super) fn bearer(metadata: &MetadataMap) -> Result<&str, Status> {
    let header = metadata.get("authorization").and_then(|v| v.to_str().ok());
    let token = header.and_then(|h| h.strip_prefix("Bearer "));
    token.ok_or_else(|| Status::unauthenticated("the request carries no bearer token"))
}
