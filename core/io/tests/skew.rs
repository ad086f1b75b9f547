//! The discovery client against controls of other versions, over real sockets.
#![allow(clippy::unwrap_used, reason = "a test ends at its first surprise")]

use std::{
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::sync::mpsc;
use tokio_stream::{Stream, StreamExt, wrappers::ReceiverStream, wrappers::TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};
use weft_io::discovery::{
    ClientConfig, ControlEndpoint, NodeIdentity, StatusHandle,
    cache::CacheFile,
    client::Client,
    convert::{self, Kind},
    proto::discovery::{
        ControlPlane, DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource,
        aggregated_discovery_service_server::{AggregatedDiscoveryService, AggregatedDiscoveryServiceServer},
    },
    skew::Skew,
};
use weft_model::{Delta, NodePod, Policy, PolicyKey, SnapshotStore, Workload, policy};

const LONG: Duration = Duration::from_secs(20);

/// A control of some version: it answers the subscriptions to the types that it knows, and says nothing of others.
#[derive(Clone)]
struct Control {
    identifier: &'static str,
    knows: Vec<(Kind, Vec<Resource>)>,
    /// What is sent after the first states, whatever the agent asked for.
    later: Vec<DeltaDiscoveryResponse>,
    asked: Arc<Mutex<Vec<DeltaDiscoveryRequest>>>,
}

#[tonic::async_trait]
impl AggregatedDiscoveryService for Control {
    type DeltaAggregatedResourcesStream =
        Pin<Box<dyn Stream<Item = Result<DeltaDiscoveryResponse, Status>> + Send>>;

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        let (sender, receiver) = mpsc::channel(8);
        let control = self.clone();
        tokio::spawn(async move { control.serve(request.into_inner(), sender).await });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

impl Control {
    fn new(identifier: &'static str, knows: Vec<(Kind, Vec<Resource>)>) -> Self {
        Self { identifier, knows, later: Vec::new(), asked: Arc::default() }
    }

    async fn serve(
        self,
        mut requests: Streaming<DeltaDiscoveryRequest>,
        sender: mpsc::Sender<Result<DeltaDiscoveryResponse, Status>>,
    ) {
        let (mut answered, mut later) = (0, self.later.into_iter());
        while let Some(Ok(request)) = requests.next().await {
            self.asked.lock().unwrap().push(request.clone());
            let known = self.knows.iter().find(|(kind, _)| kind.type_url() == request.type_url);
            let response = match known {
                Some((kind, resources)) if request.response_nonce.is_empty() => {
                    answered += 1;
                    response(kind.type_url(), resources.clone())
                }
                _ if answered == self.knows.len() => match later.next() {
                    Some(response) => response,
                    None => continue,
                },
                _ => continue,
            };
            let control_plane = Some(ControlPlane { identifier: self.identifier.to_owned() });
            if sender.send(Ok(DeltaDiscoveryResponse { control_plane, ..response })).await.is_err() {
                return;
            }
        }
    }

    /// Serves on a port of its own; the URL.
    async fn start(&self) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let service = AggregatedDiscoveryServiceServer::new(self.clone());
        let server = tonic::transport::Server::builder().add_service(service);
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        url
    }

    /// What it was asked for this type with something to say of an answer.
    fn refusals(&self) -> Vec<String> {
        let asked = self.asked.lock().unwrap();
        asked.iter().filter_map(|r| Some(r.error_detail.as_ref()?.message.clone())).collect()
    }
}

fn response(type_url: &str, resources: Vec<Resource>) -> DeltaDiscoveryResponse {
    let nonce = resources.len().to_string();
    DeltaDiscoveryResponse { type_url: type_url.to_owned(), resources, nonce, ..<_>::default() }
}

struct Agent {
    store: Arc<SnapshotStore>,
    status: StatusHandle,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Agent {
    fn start(url: String, cache: Option<CacheFile>) -> Self {
        let store = Arc::new(SnapshotStore::default());
        let endpoint = ControlEndpoint {
            url,
            root: None,
            server_name: None,
            token: None,
            plaintext: true,
            cluster: "Kubernetes".into(),
        };
        let text = |s: &str| s.to_owned();
        let node = NodeIdentity {
            ip: "127.0.0.1".parse().unwrap(),
            pod: text("weft-agent-x"),
            namespace: text("weft-system"),
            node: text("n1"),
        };
        let backoff = (Duration::from_millis(20), Duration::from_millis(200));
        let config = ClientConfig { endpoint, node, cache, backoff, node_pods: true, ready: None };
        let (client, status) = Client::new(config, store.clone());
        client.restore();
        Self { store, status, task: tokio::spawn(client.run()) }
    }

    async fn until(&mut self, what: &str, holds: impl FnMut(&weft_io::discovery::Status) -> bool) {
        let waited = tokio::time::timeout(LONG, self.status.wait_for(holds)).await.map(|s| s.map(drop));
        waited.unwrap_or_else(|_| panic!("never: {what}; {:?}", self.status.borrow())).unwrap();
    }
}

fn workload(name: &str) -> Resource {
    let workload = Workload::new(format!("c//Pod/shop/{name}"), "shop", name, "web");
    convert::encode_workload(&workload)
}

fn deny_all() -> Resource {
    convert::encode_policy(&Policy {
        key: PolicyKey { namespace: "shop".into(), name: "p".into() },
        scope: policy::PolicyScope::Namespace,
        action: policy::Action::Deny,
        dry_run: false,
        rules: vec![],
    })
}

fn node_pod() -> Resource {
    let Some((_, resource)) = convert::encode(&Delta::NodePod(NodePod {
        uid: "5f1c-1".into(),
        namespace: "shop".into(),
        name: "web-0".into(),
        node: "n1".into(),
        meshed: true,
    })) else {
        unreachable!()
    };
    resource
}

/// `resource` with something in it that this version does not know: a field of the type `varint`.
fn with_field(mut resource: Resource, number: u32, value: u8) -> Resource {
    let any = resource.resource.as_mut().unwrap();
    prost::encoding::encode_key(number, prost::encoding::WireType::Varint, &mut any.value);
    any.value.push(value);
    resource
}

#[tokio::test]
async fn an_older_control_that_does_not_know_a_type_takes_nothing_of_it_away() {
    let dir = tempfile::tempdir().unwrap();
    let cache = CacheFile { path: dir.path().join("state"), limit: 1 << 20 };
    let known = |kinds: &[Kind]| {
        let of = |kind| match kind {
            Kind::Address => vec![workload("web")],
            Kind::Authorization => vec![deny_all()],
            Kind::NodePod => vec![node_pod()],
        };
        kinds.iter().map(|kind| (*kind, of(*kind))).collect::<Vec<_>>()
    };
    let same = Control::new("weft-control/0.1.0", known(&Kind::ALL));
    let mut agent = Agent::start(same.start().await, Some(cache.clone()));
    agent.until("everything is told", |s| s.has_state() && s.unanswered().is_empty()).await;
    let kept = async {
        while !cache.path.exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(LONG, kept).await.expect("the state is kept");
    drop(agent);

    let mut older = Control::new("weft-control/0.0.9", known(&[Kind::Authorization, Kind::Address]));
    older.later = vec![response(Kind::Address.type_url(), vec![workload("web"), workload("db")])];
    let url = older.start().await;
    let mut agent = Agent::start(url.clone(), Some(cache));
    agent.until("the rest is told", |s| s.synced.addresses && s.synced.policies).await;
    agent.until("changes go on", |s| s.responses == 3).await;
    {
        let status = agent.status.borrow();
        assert_eq!(status.unanswered(), [Kind::NodePod]);
        assert!(status.has_state() && status.has_node_pods() && status.connects == 1, "{status:?}");
        assert_eq!((status.version.as_deref(), status.skew()), (Some("0.0.9"), Skew::Supported));
    }
    let now = agent.store.load();
    assert_eq!((now.workloads().count(), now.policies().count(), now.node_pods().len()), (2, 1, 1));
    // Without a state from before it goes by what there is, and knows that it lacks something.
    let mut agent = Agent::start(url, None);
    agent.until("the rest is told", |s| s.responses == 3).await;
    let status = agent.status.borrow();
    assert!(!status.has_state() && status.connected && status.unanswered() == [Kind::NodePod], "{status:?}");
    assert_eq!(agent.store.load().workloads().count(), 2);
}

#[tokio::test]
async fn what_a_newer_control_says_beyond_what_is_known_stops_nothing_else() {
    let enumeration = |mut resource: Resource| {
        // `tunnel_protocol` is field 5 of a workload, which is field 1 of an address: a value that comes later wins.
        let any = resource.resource.as_mut().unwrap();
        let mut inner = Vec::new();
        prost::encoding::encode_key(5, prost::encoding::WireType::Varint, &mut inner);
        inner.push(77);
        prost::encoding::encode_key(1, prost::encoding::WireType::LengthDelimited, &mut any.value);
        any.value.push(u8::try_from(inner.len()).unwrap());
        any.value.extend(inner);
        resource
    };
    let addresses = vec![with_field(workload("web"), 4000, 1), enumeration(workload("odd")), workload("db")];
    let knows = vec![
        (Kind::Authorization, vec![with_field(deny_all(), 4000, 1)]),
        (Kind::Address, addresses),
        (Kind::NodePod, vec![with_field(node_pod(), 4000, 1)]),
    ];
    let mut newer = Control::new("weft-control/0.9.0", knows);
    newer.later = vec![
        response("type.googleapis.com/weft.dev.later.v1.Thing", vec![]),
        response(Kind::Address.type_url(), vec![workload("late")]),
    ];
    let mut agent = Agent::start(newer.start().await, None);
    agent.until("everything is told", |s| s.has_state()).await;
    agent.until("changes go on", |s| s.responses == 4).await;
    let now = agent.store.load();
    let mut names: Vec<_> = now.workloads().map(|w| w.name.to_string()).collect();
    names.sort();
    assert_eq!((names, now.policies().count()), (["db", "late", "web"].map(String::from).to_vec(), 1));
    let status = agent.status.borrow().clone();
    let refused: Vec<_> = status.refused.iter().collect();
    assert!(refused.len() == 1 && refused[0].1.contains("tunnel_protocol"), "{refused:?}");
    assert_eq!((status.connects, status.version.as_deref(), status.skew()), (1, Some("0.9.0"), Skew::Apart));
    let both = async {
        while newer.refusals().len() < 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(LONG, both).await.expect("control hears of both");
    let refusals = newer.refusals();
    assert!(refusals.iter().any(|r| r.contains("tunnel_protocol") && r.contains("odd")), "{refusals:?}");
    assert!(refusals.iter().any(|r| r.contains("did not ask for")), "{refusals:?}");
    // It says itself of which version it is.
    let asked = newer.asked.lock().unwrap();
    let node = asked[0].node.as_ref().unwrap();
    assert_eq!(
        (&*node.user_agent_name, &*node.user_agent_version),
        ("weft-agent", env!("CARGO_PKG_VERSION"))
    );
}

#[tokio::test]
async fn a_control_that_is_not_ours_has_no_version_to_compare() {
    let knows = Kind::ALL.map(|kind| (kind, vec![])).to_vec();
    let other = Control::new(r#"{"Component":"istiod","Info":{"version":"1.28.0"}}"#, knows);
    let mut agent = Agent::start(other.start().await, None);
    agent.until("everything is told", |s| s.has_state()).await;
    let status = agent.status.borrow();
    assert_eq!((&status.version, status.skew()), (&None, Skew::Unknown));
}
