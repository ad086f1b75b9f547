//! One node's discovery stream.
//!
//! Of each kind one response is under way at a time: the next one is made when the node has answered, out of what is
//! new by then. Addresses wait until the policies that are under way are taken. Where many nodes listen, what changes within a
//! moment is told together: a message costs more than what is in it.

use super::{
    Resources,
    agents::{Agents, Entry},
    auth::Authenticator,
    resources::{Missing, Moment},
};
use crate::metrics::Metrics;
use prost_types::value;
use std::{collections::VecDeque, pin::Pin, sync::Arc, time::Duration};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep_until},
};
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use weft_io::discovery::{
    convert::{AGENT_TYPE_URL, Kind, READY_KEY},
    proto::discovery::{
        ControlPlane, DeltaDiscoveryRequest, DeltaDiscoveryResponse, Node, Resource,
        aggregated_discovery_service_server::AggregatedDiscoveryService,
    },
    skew::{self, Skew},
};

/// Responses are cut at about this many bytes: others' clients accept 4 MiB where nobody told them better, and whoever
/// reads them keeps room for the largest.
const RESPONSE_BYTES: usize = 512 << 10;
/// Whoever writes them keeps as much room, for each node: where there are many, responses are shorter, and all that room is
/// about this.
const ALL_RESPONSES: usize = 128 << 20;
/// But no shorter than this: each is waited for.
const SHORTEST_RESPONSE: usize = 32 << 10;

/// For each node that listens, changes are gathered for so long: a message costs 20 µs of a core, however many changes are in it.
const PER_NODE: Duration = Duration::from_micros(50);
/// Timers are no finer than that.
const SHORTEST_PACE: Duration = Duration::from_millis(1);
/// However many they are, nobody waits for longer than that.
const LONGEST_PACE: Duration = Duration::from_millis(250);

/// So many types that are not known here are noted of a node.
const UNKNOWN_TYPES: usize = 8;

/// A node must know what a workload forbids before it learns of the workload.
const ORDER: [Kind; 3] = [Kind::Authorization, Kind::Address, Kind::NodePod];

/// The discovery service.
pub struct Discovery {
    /// What there is to tell.
    pub resources: Arc<Resources>,
    /// Says who asks.
    pub authenticator: Arc<dyn Authenticator>,
    /// Who is connected.
    pub agents: Arc<Agents>,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// Ends all streams.
    pub shutdown: CancellationToken,
    /// Turns true when there is a state to tell: until then nodes must not be told that there is nothing.
    pub ready: watch::Receiver<bool>,
}

#[tonic::async_trait]
impl AggregatedDiscoveryService for Discovery {
    type DeltaAggregatedResourcesStream =
        Pin<Box<dyn Stream<Item = Result<DeltaDiscoveryResponse, Status>> + Send>>;

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        let caller = self.authenticator.authenticate(request.metadata()).await?;
        tracing::info!(node = %caller.node, "node connected");
        // One response of each kind may be under way, and the reason of the end.
        let (sender, receiver) = mpsc::channel(ORDER.len() + 1);
        let session = Session {
            resources: self.resources.clone(),
            metrics: self.metrics.clone(),
            entry: self.agents.enter(caller.node.clone()),
            node: caller.node.clone(),
            sender,
            subscriptions: Default::default(),
            nonces: 0,
            quiet_until: Instant::now(),
            is_late: false,
        };
        let (shutdown, ready) = (self.shutdown.clone(), self.ready.clone());
        tokio::spawn(async move {
            let end = session.run(request.into_inner(), shutdown, ready).await;
            tracing::info!(node = %caller.node, reason = end.message(), "node disconnected");
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

/// What one node knows of one kind.
#[derive(Debug, Default)]
struct Subscription {
    /// Current up to here, once everything that is queued is sent.
    upto: Moment,
    /// What is to be sent, one response after another.
    queue: VecDeque<Part>,
    /// The response that the node has not answered.
    pending: Option<String>,
}

impl Subscription {
    /// Whether the node has yet to take something that was decided to be sent: of what comes later in `ORDER` it must not
    /// hear before.
    fn is_under_way(&self) -> bool {
        self.pending.is_some() || !self.queue.is_empty()
    }
}

struct Session {
    resources: Arc<Resources>,
    metrics: Arc<Metrics>,
    entry: Entry,
    /// The node, as it proved to be.
    node: String,
    sender: mpsc::Sender<Result<DeltaDiscoveryResponse, Status>>,
    /// In the order of `ORDER`.
    subscriptions: [Option<Subscription>; ORDER.len()],
    nonces: u64,
    /// Changes wait until then.
    quiet_until: Instant,
    /// Whether there may be some that wait.
    is_late: bool,
}

impl Session {
    async fn run(
        mut self,
        mut requests: Streaming<DeltaDiscoveryRequest>,
        shutdown: CancellationToken,
        mut ready: watch::Receiver<bool>,
    ) -> Status {
        let end = tokio::select! {
            end = async {
                if ready.wait_for(|ready| *ready).await.is_err() {
                    return Status::unavailable("control is going");
                }
                self.serve(&mut requests).await
            } => end,
            () = shutdown.cancelled() => Status::unavailable("control is going; another will answer"),
        };
        // The node may be gone already, and then needs no reason.
        let _ = self.sender.try_send(Err(end.clone()));
        end
    }

    async fn serve(&mut self, requests: &mut Streaming<DeltaDiscoveryRequest>) -> Status {
        let mut changes = self.resources.watch();
        loop {
            let took = tokio::select! {
                request = requests.message() => match request {
                    Ok(Some(request)) => self.take(request),
                    Ok(None) => return Status::ok("the node closed the stream"),
                    Err(status) => return status,
                },
                () = sleep_until(self.quiet_until), if self.is_late => {
                    changes.mark_unchanged();
                    Ok(())
                }
                changed = changes.changed(), if !self.is_late => match changed {
                    Ok(()) => Ok(()),
                    Err(_) => return Status::unavailable("control is going"),
                },
            };
            if let Err(status) = took {
                return status;
            }
            if let Err(status) = self.send_all().await {
                return status;
            }
        }
    }

    /// Notes who the node says it is. One of a version that is far from the own is told once.
    fn note(&self, node: &Node) {
        let version = skew::of_agent(&node.user_agent_name, &node.user_agent_version);
        let skew = version.map_or(Skew::Unknown, skew::skew);
        let mut is_news = false;
        self.entry.note(|a| {
            is_news = a.version.as_deref() != version;
            a.id = node.id.chars().take(256).collect();
            a.version = version.map(str::to_owned);
            a.skew = skew;
        });
        if is_news && skew == Skew::Apart {
            tracing::warn!(
                node = %self.node,
                agent = version,
                control = skew::VERSION,
                "an agent's version is more than one minor version from control's: nobody has tried the two together; upgrade the \
                 older one"
            );
        }
    }

    fn take(&mut self, request: DeltaDiscoveryRequest) -> Result<(), Status> {
        if let Some(node) = &request.node {
            self.note(node);
        }
        if request.type_url == AGENT_TYPE_URL {
            let is_ready = says_ready(&request);
            tracing::debug!(node = %self.node, is_ready, "the agent says how it is");
            self.entry.note(|a| a.ready = is_ready);
            return Ok(());
        }
        let Some(kind) = Kind::from_type_url(&request.type_url) else {
            // Others' proxies ask for more than there is, and so does an agent of a later version. No answer is the right one:
            // an empty one would say that there is nothing of the type, and take from the node what it holds.
            tracing::debug!(type_url = %request.type_url, "unknown type of resource");
            let type_url = request.type_url.chars().take(256).collect();
            self.entry.note(|a| {
                if a.unknown_types.len() < UNKNOWN_TYPES {
                    a.unknown_types.insert(type_url);
                }
            });
            return Ok(());
        };
        let Some(at) = ORDER.into_iter().position(|k| k == kind) else { return Ok(()) };
        let Some(subscription) = &mut self.subscriptions[at] else {
            let missing = self.resources.beyond(kind, &self.node, &request.initial_resource_versions);
            let upto = missing.upto;
            // Also where there is nothing to tell: the node waits to hear that.
            let queue = cut(missing, self.room());
            self.subscriptions[at] = Some(Subscription { upto, queue, pending: None });
            return Ok(());
        };
        if request.response_nonce.is_empty() || subscription.pending.as_ref() != Some(&request.response_nonce)
        {
            return Ok(());
        }
        subscription.pending = None;
        match request.error_detail {
            None => self.entry.note(|a| a.acknowledged += 1),
            Some(error) => {
                let reason: String = error.message.chars().take(1024).collect();
                tracing::warn!(node = %self.node, ?kind, %reason, "a node refuses resources; what it held of them stays in force there");
                self.metrics.refused(kind);
                self.entry.note(|a| {
                    a.refused += 1;
                    a.last_refusal = Some(reason);
                });
            }
        }
        Ok(())
    }

    /// How long a response may be.
    fn room(&self) -> usize {
        (ALL_RESPONSES / self.entry.count().max(1)).clamp(SHORTEST_RESPONSE, RESPONSE_BYTES)
    }

    /// Sends what may be sent now.
    async fn send_all(&mut self) -> Result<(), Status> {
        let now = Instant::now();
        let is_quiet = now < self.quiet_until;
        let room = self.room();
        self.is_late = false;
        for (at, kind) in ORDER.into_iter().enumerate() {
            if self.subscriptions[..at].iter().flatten().any(Subscription::is_under_way) {
                break;
            }
            let Some(subscription) = &mut self.subscriptions[at] else { continue };
            if subscription.pending.is_some() {
                continue;
            }
            if subscription.queue.is_empty() {
                if is_quiet {
                    self.is_late = true;
                    continue;
                }
                let missing = self.resources.since(kind, &self.node, subscription.upto);
                let missing = missing.ok_or_else(|| Status::aborted("too far behind; connect again"))?;
                subscription.upto = missing.upto;
                if !missing.resources.is_empty() || !missing.removed.is_empty() {
                    subscription.queue = cut(missing, room);
                    self.quiet_until = now + pace(self.entry.count());
                }
            }
            let Some(part) = subscription.queue.pop_front() else { continue };
            self.nonces += 1;
            let nonce = self.nonces.to_string();
            subscription.pending = Some(nonce.clone());
            let more_follows = !subscription.queue.is_empty();
            let version = subscription.upto.to_string();
            let control_plane =
                (self.nonces == 1).then(|| ControlPlane { identifier: skew::control_identifier() });
            let response = DeltaDiscoveryResponse {
                more_follows,
                control_plane,
                ..response(kind, part, version, nonce)
            };
            self.metrics.sent(kind, response.resources.len() + response.removed_resources.len());
            self.entry.note(|a| a.sent += 1);
            self.sender.send(Ok(response)).await.map_err(|_| Status::cancelled("the node went away"))?;
        }
        Ok(())
    }
}

/// For how long changes are gathered for a node, of so many.
fn pace(nodes: usize) -> Duration {
    let nodes = u32::try_from(nodes).unwrap_or(u32::MAX);
    let pace = PER_NODE.saturating_mul(nodes).min(LONGEST_PACE);
    if pace < SHORTEST_PACE { Duration::ZERO } else { pace }
}

/// What a request about the agent itself says of its readiness.
fn says_ready(request: &DeltaDiscoveryRequest) -> bool {
    let metadata = request.node.as_ref().and_then(|node| node.metadata.as_ref());
    let value = metadata.and_then(|m| m.fields.get(READY_KEY)?.kind.as_ref());
    matches!(value, Some(value::Kind::BoolValue(true)))
}

/// A part of what is missing, small enough for one response.
#[derive(Debug, Default)]
struct Part {
    resources: Vec<Arc<Resource>>,
    removed: Vec<String>,
}

/// Cuts what is missing into parts; at least one.
fn cut(missing: Missing, room: usize) -> VecDeque<Part> {
    let mut parts = VecDeque::new();
    let mut part = Part { removed: missing.removed, ..Part::default() };
    let mut bytes = 0;
    for resource in missing.resources {
        let size = size_of(&resource);
        if bytes > 0 && bytes + size > room {
            parts.push_back(std::mem::take(&mut part));
            bytes = 0;
        }
        bytes += size;
        part.resources.push(resource);
    }
    parts.push_back(part);
    parts
}

fn size_of(resource: &Resource) -> usize {
    resource.name.len()
        + resource.version.len()
        + resource.resource.as_ref().map_or(0, |a| a.value.len())
        + 64
}

fn response(kind: Kind, part: Part, version: String, nonce: String) -> DeltaDiscoveryResponse {
    DeltaDiscoveryResponse {
        system_version_info: version,
        type_url: kind.type_url().to_owned(),
        resources: part.resources.iter().map(|r| Resource::clone(r)).collect(),
        removed_resources: part.removed,
        nonce,
        control_plane: None,
        more_follows: false,
    }
}

#[cfg(test)]
mod tests;
