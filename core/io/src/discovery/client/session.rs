//! One stream, from the first request to its end.

use super::{Client, held};
use crate::discovery::{
    convert::{AGENT_TYPE_URL, Kind, READY_KEY, Refused},
    endpoint::EndpointError,
    proto::discovery::{
        self as xds, DeltaDiscoveryRequest, DeltaDiscoveryResponse,
        aggregated_discovery_service_client::AggregatedDiscoveryServiceClient,
    },
    skew::{self, Skew},
};
use prost_types::{Struct, Value, value};
use std::{convert::Infallible, pin::pin, time::Duration};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request};

/// The first response of a mesh with 100,000 workloads.
const LARGEST_RESPONSE: usize = 256 << 20;
/// A control that knows a type of resource answers the subscription to it by then.
const UNANSWERED: Duration = Duration::from_secs(15);
/// What a NACK says at most; it travels in a message of its own, but servers log it.
const REASONS: usize = 10;

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum SessionError {
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    #[error("control answers {:?}: {}", .0.code(), .0.message())]
    Status(Box<tonic::Status>),
    #[error("control closed the stream")]
    Closed,
}

impl From<tonic::Status> for SessionError {
    fn from(status: tonic::Status) -> Self {
        Self::Status(Box::new(status))
    }
}

impl Client {
    /// Runs one stream until it ends, which it always does with an error.
    pub(super) async fn session(&self) -> Result<Infallible, SessionError> {
        let channel = self.config.endpoint.connect().await?;
        // One acknowledgement is under way for each response; room for the subscriptions and some of those.
        let (requests, outgoing) = mpsc::channel(16);
        for request in self.subscriptions() {
            requests.send(request).await.map_err(|_| SessionError::Closed)?;
        }
        let mut request = Request::new(ReceiverStream::new(outgoing));
        self.config.endpoint.authorize(&mut request).await?;
        let mut client = AggregatedDiscoveryServiceClient::new(channel)
            .max_decoding_message_size(LARGEST_RESPONSE)
            .max_encoding_message_size(LARGEST_RESPONSE);
        let mut responses = client.delta_aggregated_resources(request).await?.into_inner();
        self.status.send_modify(|s| s.opened());
        tracing::info!(control = %self.config.endpoint.url, "discovery connected");
        let mut ready = self.config.ready.clone();
        if let Some(ready) = &mut ready {
            ready.mark_changed();
        }
        let mut unanswered = pin!(tokio::time::sleep(UNANSWERED));
        let mut looked = false;
        loop {
            let request = tokio::select! {
                () = &mut unanswered, if !looked => {
                    looked = true;
                    self.tell_unanswered();
                    continue;
                }
                response = responses.message() => match response? {
                    Some(response) => self.respond(response),
                    None => return Err(SessionError::Closed),
                },
                is_ready = changed(&mut ready) => self.tell(is_ready),
            };
            requests.send(request).await.map_err(|_| SessionError::Closed)?;
        }
    }

    /// Says of what control has told nothing.
    fn tell_unanswered(&self) {
        let status = self.status.borrow();
        let types: Vec<_> = status.unanswered().into_iter().map(Kind::type_url).collect();
        if !types.is_empty() {
            let control = status.version.as_deref().unwrap_or("of an unknown version");
            tracing::warn!(
                ?types,
                control,
                "control has not answered the subscriptions to these types; what is held of them stays in force. An older \
                 control does not know them: upgrade it"
            );
        }
    }

    /// The request that tells control whether the agent is ready.
    fn tell(&self, is_ready: bool) -> DeltaDiscoveryRequest {
        let mut node = self.node();
        let value = Value { kind: Some(value::Kind::BoolValue(is_ready)) };
        node.metadata.get_or_insert_default().fields.insert(READY_KEY.to_owned(), value);
        DeltaDiscoveryRequest {
            node: Some(node),
            type_url: AGENT_TYPE_URL.to_owned(),
            ..DeltaDiscoveryRequest::default()
        }
    }

    /// The first request of each kind.
    fn subscriptions(&self) -> Vec<DeltaDiscoveryRequest> {
        let held = held::lock(&self.held);
        Kind::ALL
            .into_iter()
            .filter(|kind| *kind != Kind::NodePod || self.config.node_pods)
            .map(|kind| DeltaDiscoveryRequest {
                node: Some(self.node()),
                type_url: kind.type_url().to_owned(),
                initial_resource_versions: held.versions(kind),
                ..DeltaDiscoveryRequest::default()
            })
            .collect()
    }

    fn node(&self) -> xds::Node {
        let node = &self.config.node;
        let text = |s: &str| Value { kind: Some(value::Kind::StringValue(s.to_owned())) };
        let fields = [
            ("NAME", node.pod.as_str()),
            ("NAMESPACE", &node.namespace),
            ("INSTANCE_IPS", &node.ip.to_string()),
            ("NODE_NAME", &node.node),
            ("CLUSTER_ID", &self.config.endpoint.cluster),
        ]
        .map(|(key, value)| (key.to_owned(), text(value)));
        xds::Node {
            id: node.id(),
            cluster: String::new(),
            metadata: Some(Struct { fields: fields.into() }),
            user_agent_name: skew::AGENT.to_owned(),
            user_agent_version: skew::VERSION.to_owned(),
        }
    }

    /// Notes which version control is of; one that is far from the own is told.
    fn note_control(&self, identifier: &str) {
        let mut apart = None;
        self.status.send_if_modified(|status| {
            let is_new = status.answers_as(identifier);
            apart = status.version.clone().filter(|_| is_new && status.skew() == Skew::Apart);
            is_new
        });
        if let Some(control) = apart {
            tracing::warn!(
                control,
                agent = skew::VERSION,
                "control's version is more than one minor version from this agent's: nobody has tried the two together; upgrade \
                 the older one"
            );
        }
    }

    /// Applies `response` and says what to answer: an ACK, or a NACK that names what is wrong. The good resources of a
    /// response hold in either case.
    fn respond(&self, response: DeltaDiscoveryResponse) -> DeltaDiscoveryRequest {
        if let Some(control) = &response.control_plane {
            self.note_control(&control.identifier);
        }
        let type_url = response.type_url.clone();
        let response_nonce = response.nonce.clone();
        let more_follows = response.more_follows;
        let answer = |error_detail| DeltaDiscoveryRequest {
            type_url: type_url.clone(),
            response_nonce: response_nonce.clone(),
            error_detail,
            ..DeltaDiscoveryRequest::default()
        };
        let Some(kind) = Kind::from_type_url(&type_url) else {
            let message = format!("this node did not ask for `{type_url}`");
            return answer(Some(invalid(message)));
        };
        let names = response.resources.iter().map(|r| &r.name).chain(&response.removed_resources);
        self.status.send_modify(|s| names.for_each(|n| s.forgive(n)));
        let (is_new, refused) = {
            let mut held = held::lock(&self.held);
            let (deltas, refused) = held.take(kind, response);
            let is_new = !deltas.is_empty();
            if is_new {
                tracing::debug!(?kind, deltas = deltas.len(), "discovery response");
                self.sink.apply(deltas);
            }
            (is_new, refused)
        };
        let (mut had_state, mut has_state) = (false, false);
        self.status.send_modify(|s| {
            had_state = s.has_state();
            s.answered(kind, more_follows);
            has_state = s.has_state();
            refused.iter().for_each(|r| s.refuse(r));
        });
        // A first state that is not complete is not kept: the next start would take it for the whole.
        if has_state && (is_new || !had_state) {
            self.changed.notify_one();
        }
        answer((!refused.is_empty()).then(|| nack(&refused)))
    }
}

/// The next news of whether the agent is ready; none for ever where nobody says.
async fn changed(ready: &mut Option<watch::Receiver<bool>>) -> bool {
    if let Some(news) = ready
        && news.changed().await.is_ok()
    {
        return *news.borrow_and_update();
    }
    std::future::pending().await
}

fn invalid(message: String) -> xds::Status {
    xds::Status { code: Code::InvalidArgument as i32, message, details: Vec::new() }
}

fn nack(refused: &[Refused]) -> xds::Status {
    let mut reasons: Vec<String> = refused.iter().take(REASONS).map(ToString::to_string).collect();
    for reason in &reasons {
        tracing::warn!(%reason, "resource refused; what was held stays in force");
    }
    if refused.len() > REASONS {
        reasons.push(format!("and {} more", refused.len() - REASONS));
    }
    invalid(reasons.join("; "))
}
