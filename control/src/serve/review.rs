//! Nodes that are known by tokens of their pods, which the Kubernetes API reviews.

mod cache;
#[cfg(test)]
mod tests;

use super::auth::{Authenticator, Caller, bearer};
use cache::{Cache, Known};
use k8s_openapi::api::{
    authentication::v1::{TokenReview, TokenReviewSpec, UserInfo},
    core::v1::Pod,
};
use kube::{Api, Client, api::PostParams};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::Semaphore;
use tonic::{Status, metadata::MetadataMap};
use weft_io::told::whole;

/// Whom a token must be meant for.
pub const AUDIENCE: &str = "weft-control";
/// The service account of agents, in control's own namespace.
const ACCOUNT: &str = "weft-agent";
/// A longer token is none; the API's are a tenth of it.
const LONGEST: usize = 16 << 10;
/// Reviews at the same time.
const REVIEWS: usize = 16;
/// How long the API may take for one.
const PATIENCE: Duration = Duration::from_secs(5);

/// Has tokens reviewed by the Kubernetes API, and believes what it said for a while.
pub struct TokenReviews {
    reviews: Api<TokenReview>,
    pods: Api<Pod>,
    /// The user name of agents.
    user: String,
    slots: Semaphore,
    cache: Cache,
}

/// Why there is no answer.
enum Unknown {
    /// The token is not an agent's.
    Refused(String),
    /// The API was not asked, or did not answer.
    Unasked(String),
}

impl TokenReviews {
    /// Knows the agents of `namespace`.
    pub fn new(client: Client, namespace: &str) -> Self {
        Self {
            reviews: Api::all(client.clone()),
            pods: Api::namespaced(client, namespace),
            user: format!("system:serviceaccount:{namespace}:{ACCOUNT}"),
            slots: Semaphore::new(REVIEWS),
            cache: Cache::default(),
        }
    }

    async fn review(&self, token: &str, key: &cache::Key) -> Result<String, Unknown> {
        // Who comes to a long queue is told to come again, rather than to wait for those before.
        let Ok(_slot) = tokio::time::timeout(PATIENCE, self.slots.acquire()).await else {
            return Err(Unknown::Unasked(format!(
                "{REVIEWS} tokens are being reviewed, and for {PATIENCE:?} none of them was; the Kubernetes API is slow"
            )));
        };
        // A node asks for several certificates at once: what was said of its token meanwhile holds for all.
        match self.cache.fresh(key, Instant::now(), SystemTime::now()) {
            Some(Known::Node(node)) => return Ok(node),
            Some(Known::Refused(why)) => return Err(Unknown::Refused(why)),
            None => {}
        }
        let spec =
            TokenReviewSpec { token: Some(token.to_owned()), audiences: Some(vec![AUDIENCE.to_owned()]) };
        let review = TokenReview { spec, ..TokenReview::default() };
        let post = PostParams::default();
        let asked = tokio::time::timeout(PATIENCE, self.reviews.create(&post, &review)).await;
        let status = match asked {
            Ok(Ok(review)) => review.status.unwrap_or_default(),
            Ok(Err(kube::Error::Api(status))) if status.code == 403 => {
                return Err(Unknown::Unasked(
                    "control may not create tokenreviews of authentication.k8s.io; bind the ClusterRole \
                     system:auth-delegator to its service account"
                        .into(),
                ));
            }
            Ok(Err(error)) => {
                return Err(Unknown::Unasked(format!(
                    "the Kubernetes API reviews no token: {}",
                    whole(&error)
                )));
            }
            Err(_) => {
                return Err(Unknown::Unasked(format!(
                    "the Kubernetes API did not review a token within {PATIENCE:?}"
                )));
            }
        };
        if status.authenticated != Some(true) {
            let why = status.error.unwrap_or_else(|| "it is unknown".into());
            return Err(Unknown::Refused(format!(
                "the Kubernetes API does not accept the token for the audience {AUDIENCE}: {why}; project one with \
                 that audience into the agent's pod"
            )));
        }
        // An authenticator that knows no audiences accepts a token whomever it is meant for, and then names none.
        if !status.audiences.iter().flatten().any(|a| a == AUDIENCE) {
            return Err(Unknown::Refused(format!("the token is not meant for the audience {AUDIENCE}")));
        }
        self.node_of(status.user.unwrap_or_default()).await
    }

    /// The node of an agent, from what the API vouches for.
    async fn node_of(&self, user: UserInfo) -> Result<String, Unknown> {
        let name = user.username.as_deref().unwrap_or_default();
        if name != self.user {
            return Err(Unknown::Refused(format!("the token is that of {name:.256}, not of {}", self.user)));
        }
        let extra = |key: &str| {
            let values = user.extra.as_ref()?.get(&format!("authentication.kubernetes.io/{key}"))?;
            values.first().filter(|v| !v.is_empty()).cloned()
        };
        let (Some(pod), Some(uid)) = (extra("pod-name"), extra("pod-uid")) else {
            return Err(Unknown::Refused(
                "the token is not bound to a pod; use one that is projected into the agent's pod".into(),
            ));
        };
        if let Some(node) = extra("node-name") {
            return Ok(node);
        }
        // Before 1.32 tokens do not name the node; the pod does.
        let found = tokio::time::timeout(PATIENCE, self.pods.get_opt(&pod)).await;
        let found = match found {
            Ok(Ok(found)) => found.filter(|pod| pod.metadata.uid.as_ref() == Some(&uid)),
            Ok(Err(error)) => {
                return Err(Unknown::Unasked(format!("the pod {pod} cannot be read: {}", whole(&error))));
            }
            Err(_) => {
                return Err(Unknown::Unasked(format!("the pod {pod} was not read within {PATIENCE:?}")));
            }
        };
        let node = found.and_then(|pod| pod.spec?.node_name).filter(|node| !node.is_empty());
        node.ok_or_else(|| Unknown::Refused(format!("the token's pod {pod} is on no node")))
    }
}

#[tonic::async_trait]
impl Authenticator for TokenReviews {
    async fn authenticate(&self, metadata: &MetadataMap) -> Result<Caller, Status> {
        let token = bearer(metadata)?;
        if token.len() > LONGEST {
            return Err(Status::unauthenticated(format!("a token has at most {LONGEST} bytes")));
        }
        let key = cache::key(token);
        if let Some(known) = self.cache.fresh(&key, Instant::now(), SystemTime::now()) {
            return known.into_caller();
        }
        let reviewed = self.review(token, &key).await;
        let now = Instant::now();
        match reviewed {
            Ok(node) => {
                self.cache.put(key, Known::Node(node.clone()), cache::expiry(token), now);
                Ok(Caller { node })
            }
            Err(Unknown::Refused(why)) => {
                self.cache.put(key, Known::Refused(why.clone()), None, now);
                Err(Status::unauthenticated(why))
            }
            Err(Unknown::Unasked(why)) => {
                // Certificates go on to be renewed while the API is away, for tokens that it knew not long ago.
                if let Some(known) = self.cache.stale(&key, now, SystemTime::now()) {
                    tracing::warn!(why, "a token is believed that was reviewed some minutes ago");
                    return known.into_caller();
                }
                tracing::error!(why, "a node cannot be known");
                Err(Status::unavailable(why))
            }
        }
    }
}

impl Known {
    fn into_caller(self) -> Result<Caller, Status> {
        match self {
            Known::Node(node) => Ok(Caller { node }),
            Known::Refused(why) => Err(Status::unauthenticated(why)),
        }
    }
}
