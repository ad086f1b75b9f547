//! The control plane and its clients, in one process, over real sockets and TLS.
#![allow(clippy::unwrap_used, reason = "a test ends at its first surprise")]

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};
use weft_control::{
    app::{self, Running},
    args::RunArgs,
    config::Config,
};
use weft_io::discovery::{
    ClientConfig, ControlEndpoint, DiscoveryCa, NodeIdentity, Sink, StatusHandle, cache::CacheFile,
    client::Client, convert::Kind, proto::discovery as xds,
};
use weft_model::{Delta, Identity, Snapshot, SnapshotStore};

const LONG: Duration = Duration::from_secs(20);

const PODS: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {weft.dev/mesh: enabled}}
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, labels: {app: web}}
spec: {nodeName: n1, serviceAccountName: web, containers: [{name: a}]}
status: {podIPs: [{ip: 10.0.0.1}]}
---
apiVersion: v1
kind: Pod
metadata: {name: db, namespace: shop, labels: {app: db}}
spec: {nodeName: n2, serviceAccountName: db, containers: [{name: a}]}
status: {podIPs: [{ip: 10.0.0.2}]}
";

const POLICY: &str = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: p, namespace: shop}
spec: {selector: {matchLabels: {app: db}}, rules: [{from: [{source: {serviceAccounts: [web]}}]}]}
";

/// A control plane on files of its own.
struct Mesh {
    dir: tempfile::TempDir,
    running: Option<Running>,
    address: SocketAddr,
}

impl Mesh {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("manifests")).unwrap();
        fs::create_dir_all(dir.path().join("state/tokens")).unwrap();
        let mut mesh = Self { dir, running: None, address: "127.0.0.1:0".parse().unwrap() };
        mesh.write("pods.yaml", PODS);
        for node in ["n1", "n2"] {
            let token = mesh.path("state/tokens").join(node);
            fs::write(&token, format!("token of {node}\n")).unwrap();
            fs::set_permissions(token, fs::Permissions::from_mode(0o600)).unwrap();
        }
        mesh.run().await;
        mesh
    }

    /// Starts it, or starts it again on the same port.
    async fn run(&mut self) {
        let args = RunArgs {
            manifests: Some(self.path("manifests")),
            state: Some(self.path("state")),
            listen: Some(self.address),
            monitoring: Some("127.0.0.1:0".parse().unwrap()),
            root: Some(self.path("root.pem")),
            bound: Some(self.path("bound.json")),
            leaf_lifetime: Some("30s".into()),
            ..RunArgs::default()
        };
        let running = app::start(Config::load(&args).unwrap()).await.unwrap();
        self.address = running.bound.discovery;
        self.running = Some(running);
    }

    async fn stop(&mut self) {
        self.running.take().unwrap().stop().await;
    }

    fn path(&self, file: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join(file)
    }

    fn write(&self, file: &str, text: &str) {
        fs::write(self.path("manifests").join(file), text).unwrap();
    }

    fn endpoint(&self, node: &str) -> ControlEndpoint {
        ControlEndpoint {
            url: format!("https://{}", self.address),
            root: Some(self.path("root.pem")),
            server_name: None,
            token: Some(self.path("state/tokens").join(node)),
            plaintext: false,
            cluster: "Kubernetes".into(),
        }
    }

    fn client(&self, node: &str, cache: bool) -> Node {
        let sink = Arc::new(Recorder::default());
        let config = ClientConfig {
            endpoint: self.endpoint(node),
            node: NodeIdentity {
                ip: "127.0.0.1".parse().unwrap(),
                pod: node.into(),
                namespace: "weft-system".into(),
                node: node.into(),
            },
            cache: cache.then(|| CacheFile { path: self.path(format!("{node}.state")), limit: 1 << 20 }),
            backoff: (Duration::from_millis(20), Duration::from_millis(200)),
            node_pods: false,
            ready: None,
        };
        let (client, status) = Client::new(config, sink.clone());
        client.restore();
        let task = tokio::spawn(client.run());
        Node { sink, status, task }
    }
}

/// A snapshot, and the batches that made it.
#[derive(Default)]
struct Recorder {
    store: SnapshotStore,
    batches: Mutex<Vec<Vec<Delta>>>,
}

impl Sink for Recorder {
    fn apply(&self, deltas: Vec<Delta>) {
        self.batches.lock().unwrap().push(deltas.clone());
        self.store.apply(deltas);
    }

    fn snapshot(&self) -> Arc<Snapshot> {
        self.store.load()
    }
}

/// A node's discovery.
struct Node {
    sink: Arc<Recorder>,
    status: StatusHandle,
    task: tokio::task::JoinHandle<()>,
}

impl Node {
    async fn until(&self, what: &str, holds: impl Fn(&Snapshot) -> bool) {
        let wait = async {
            while !holds(&self.sink.store.load()) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(LONG, wait).await.unwrap_or_else(|_| panic!("never: {what}"));
    }

    async fn status(&mut self, what: &str, holds: impl FnMut(&weft_io::discovery::Status) -> bool) {
        let waited = tokio::time::timeout(LONG, self.status.wait_for(holds)).await;
        waited.unwrap_or_else(|_| panic!("never: {what}")).unwrap();
    }

    fn batches(&self) -> Vec<Vec<Delta>> {
        std::mem::take(&mut self.sink.batches.lock().unwrap())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_learns_everything_and_then_only_what_changes() {
    let mesh = Mesh::start().await;
    let mut node = mesh.client("n1", false);
    node.status("all is told", |s| s.has_state()).await;
    assert_eq!(node.sink.store.load().workloads().count(), 2);
    node.batches();

    mesh.write("policy.yaml", POLICY);
    node.until("the policy is there and selects", |s| {
        s.policies().count() == 1 && s.workloads().any(|w| !w.policies.is_empty())
    })
    .await;
    let batches = node.batches();
    assert!(matches!(batches[0][..], [Delta::Policy(_)]), "the policy first: {batches:?}");
    assert!(matches!(&batches[1][..], [Delta::Workload(w)] if &*w.name == "db"), "{batches:?}");

    fs::remove_file(mesh.path("manifests/policy.yaml")).unwrap();
    node.until("the policy is gone", |s| s.policies().count() == 0).await;
    let agents = mesh.running.as_ref().unwrap().agents.list();
    assert_eq!((agents.len(), agents[0].node.as_str(), agents[0].refused), (1, "n1", 0));
    assert!(agents[0].id.starts_with("ztunnel~127.0.0.1~n1."));
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restart_of_control_only_the_difference_is_sent() {
    let mut mesh = Mesh::start().await;
    mesh.write("policy.yaml", POLICY);
    let mut node = mesh.client("n1", false);
    node.until("all is there", |s| {
        s.policies().count() == 1
            && s.workloads().count() == 2
            && s.workloads().any(|w| !w.policies.is_empty())
    })
    .await;
    mesh.stop().await;
    node.status("the connection is lost", |s| !s.connected && s.last_error.is_some()).await;
    node.batches();
    mesh.write("pods.yaml", &PODS.replace("10.0.0.2", "10.0.0.3"));
    fs::remove_file(mesh.path("manifests/policy.yaml")).unwrap();
    mesh.run().await;
    node.until("both changes are there", |s| {
        s.policies().count() == 0 && s.workloads().any(|w| w.addresses[0].to_string() == "10.0.0.3")
    })
    .await;
    let told: Vec<Delta> = node.batches().concat();
    assert_eq!(told.len(), 2, "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cache_serves_while_control_is_away() {
    let mut mesh = Mesh::start().await;
    let mut node = mesh.client("n1", true);
    node.status("all is told", |s| s.has_state()).await;
    let cache = mesh.path("n1.state");
    let written = async {
        while !cache.exists() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(LONG, written).await.expect("the cache is written");
    mesh.stop().await;
    drop(node);
    let mut node = mesh.client("n1", true);
    assert_eq!(node.status.borrow().restored, Some(2), "before any connection");
    assert_eq!(node.sink.store.load().workloads().count(), 2);
    mesh.run().await;
    node.batches();
    node.status("control is back", |s| s.synced.addresses && s.synced.policies).await;
    assert_eq!(node.batches(), Vec::<Vec<Delta>>::new(), "nothing changed, so nothing is sent");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_no_token_or_trusts_another_root_stays_outside() {
    let mesh = Mesh::start().await;
    fs::write(mesh.path("state/tokens.bad"), "wrong").unwrap();
    let mut node = mesh.client("../tokens.bad", false);
    node.status("refused", |s| s.last_error.as_ref().is_some_and(|e| e.contains("no node has this token")))
        .await;
    assert_eq!(node.sink.store.load().workloads().count(), 0);

    let other = Mesh::start().await;
    fs::copy(other.path("root.pem"), mesh.path("root.pem")).unwrap();
    let mut node = mesh.client("n1", false);
    node.status("not trusted", |s| s.last_error.as_ref().is_some_and(|e| e.contains("certificate"))).await;
}

fn request(names: &[&str], common_name: Option<&str>) -> String {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    if let Some(name) = common_name {
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
    }
    params.subject_alt_names = names.iter().map(|n| rcgen::SanType::URI((*n).try_into().unwrap())).collect();
    params.serialize_request(&key).unwrap().pem().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_gets_certificates_of_its_own_workloads_alone() {
    let mesh = Mesh::start().await;
    mesh.client("n1", false).status("all is told", |s| s.has_state()).await;
    let web = Identity::new("cluster.local", "shop", "web");
    let own = web.to_string();
    let ca = DiscoveryCa::new(mesh.endpoint("n1"), None);
    let chain = ca.issue(&web, &request(&[&own], None)).await.unwrap();
    assert_eq!(chain.len(), 3, "leaf, intermediate, root");
    assert_eq!(chain[2], fs::read_to_string(mesh.path("root.pem")).unwrap());

    let refused = |chain: Result<Vec<String>, _>| match chain {
        Err(weft_io::discovery::ca::IssueError::Refused(status)) => {
            (status.code(), status.message().to_owned())
        }
        other => panic!("{other:?}"),
    };
    let db = Identity::new("cluster.local", "shop", "db");
    let (code, text) = refused(ca.issue(&db, &request(&[&db.to_string()], None)).await);
    assert_eq!(code, tonic::Code::PermissionDenied);
    assert!(text.contains("n1") && text.contains(&db.to_string()), "{text}");
    let foreign = Identity::new("other.example", "shop", "web");
    let (code, _) = refused(ca.issue(&foreign, &request(&[&foreign.to_string()], None)).await);
    assert_eq!(code, tonic::Code::PermissionDenied);

    for (csr, part) in [
        (request(&[], None), "exactly one name"),
        (request(&[&own, "spiffe://cluster.local/ns/shop/sa/db"], None), "exactly one name"),
        (request(&["spiffe://cluster.local/ns/shop/sa/db"], None), "exactly one name"),
        (request(&[&own], Some("web")), "common name"),
        ("nonsense".to_owned(), "not a certificate signing request"),
    ] {
        let (code, text) = refused(ca.issue(&web, &csr).await);
        assert_eq!(code, tonic::Code::InvalidArgument, "{text}");
        assert!(text.contains(part), "{part} is not in {text}");
    }
    let stranger = DiscoveryCa::new(ControlEndpoint { token: None, ..mesh.endpoint("n1") }, None);
    let (code, _) = refused(stranger.issue(&web, &request(&[&own], None)).await);
    assert_eq!(code, tonic::Code::Unauthenticated);
}

#[tokio::test(flavor = "multi_thread")]
async fn findings_follow_the_manifests() {
    let mesh = Mesh::start().await;
    let mut findings = mesh.running.as_ref().unwrap().findings.clone();
    mesh.write("policy.yaml", &POLICY.replace("app: db", "app: typo"));
    let found =
        tokio::time::timeout(LONG, findings.wait_for(|f| !f.is_empty())).await.unwrap().unwrap().clone();
    let text = found[0].to_string();
    for part in ["warning", "policy.yaml", "AuthorizationPolicy shop/p", "spec.selector", "selects no pod"] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    mesh.write("policy.yaml", POLICY);
    tokio::time::timeout(LONG, findings.wait_for(|f| f.is_empty())).await.unwrap().unwrap();
}

/// A stream of somebody who speaks for `n1`, with the requests that open it, and the type of each answer.
async fn raw_stream(mesh: &Mesh, requests: Vec<xds::DeltaDiscoveryRequest>) -> Vec<String> {
    let endpoint = mesh.endpoint("n1");
    let count = requests.len();
    let opening = tokio_stream::iter(requests);
    // It stays open.
    let outgoing = tokio_stream::StreamExt::chain(opening, tokio_stream::pending());
    let mut request = tonic::Request::new(outgoing);
    endpoint.authorize(&mut request).await.unwrap();
    let channel = endpoint.connect().await.unwrap();
    let mut client = xds::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient::new(channel);
    let mut responses = client.delta_aggregated_resources(request).await.unwrap().into_inner();
    let mut types = Vec::new();
    while types.len() < count {
        // Who does not know a type says nothing of it.
        match tokio::time::timeout(Duration::from_secs(2), responses.message()).await {
            Ok(response) => types.push(response.unwrap().unwrap().type_url),
            Err(_) => break,
        }
    }
    let agents = mesh.running.as_ref().unwrap().agents.list();
    // Those that went may still be in it.
    types.extend(agents.last().map(|a| format!("{:?} {:?} {:?}", a.version, a.skew, a.unknown_types)));
    types
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_of_other_versions_are_served_and_told_of() {
    let mesh = Mesh::start().await;
    let address = Kind::Address.type_url();
    let later = "type.googleapis.com/weft.dev.later.v1.Thing";
    let subscribe = |name: &str, version: &str, types: &[&str]| {
        let node = xds::Node {
            id: "ztunnel~127.0.0.1~n1.weft-system~weft-system.svc.cluster.local".into(),
            user_agent_name: name.into(),
            user_agent_version: version.into(),
            ..xds::Node::default()
        };
        let request = |url: &&str| xds::DeltaDiscoveryRequest {
            node: Some(node.clone()),
            type_url: (*url).to_owned(),
            ..xds::DeltaDiscoveryRequest::default()
        };
        types.iter().map(request).collect::<Vec<_>>()
    };
    // An older one, which asks for less, and one from before versions were told.
    let older = raw_stream(&mesh, subscribe("weft-agent", "0.0.3", &[address])).await;
    assert_eq!(older, [address, r#"Some("0.0.3") Supported {}"#]);
    let silent = raw_stream(&mesh, subscribe("", "", &[address])).await;
    assert_eq!(silent, [address, "None Unknown {}"]);
    // A newer one, which asks for more.
    let newer = raw_stream(&mesh, subscribe("weft-agent", "0.9.1", &[later, address])).await;
    let known = format!(r#"Some("0.9.1") Apart {{"{later}"}}"#);
    assert_eq!(newer, [address, &known]);
    // What is no version, and another's proxy.
    let odd = raw_stream(&mesh, subscribe("weft-agent", "the newest", &[address])).await;
    assert_eq!(odd, [address, "None Unknown {}"]);
    let istios = raw_stream(&mesh, subscribe("ztunnel", "1.28.0", &[address])).await;
    assert_eq!(istios, [address, "None Unknown {}"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_knows_the_version_of_control() {
    let mesh = Mesh::start().await;
    let mut node = mesh.client("n1", false);
    node.status("all is told", |s| s.has_state()).await;
    assert_eq!(node.status.borrow().version.as_deref(), Some(env!("CARGO_PKG_VERSION")));
    let agents = mesh.running.as_ref().unwrap().agents.list();
    assert_eq!(agents[0].version.as_deref(), Some(env!("CARGO_PKG_VERSION")));
}
