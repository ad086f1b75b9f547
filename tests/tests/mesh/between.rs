//! A go-between on the way from the agents to control: it can spoil what control sends, and let its authority be slow.

use anyhow::{Context, Result, anyhow};
use futures::StreamExt;
use prost::Message;
use rcgen::{CertificateParams, KeyPair, SanType};
use serde_json::{Map, Value, json};
use std::{
    fs,
    net::SocketAddr,
    path::PathBuf,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio_stream::Stream;
use tokio_util::sync::CancellationToken;
use tonic::{
    Request, Response, Status, Streaming,
    transport::{Identity, Server, ServerTlsConfig},
};
use weft_io::discovery::{
    ControlEndpoint,
    proto::{
        auth::{
            IstioCertificateRequest, IstioCertificateResponse,
            istio_certificate_service_client::IstioCertificateServiceClient,
            istio_certificate_service_server::{IstioCertificateService, IstioCertificateServiceServer},
        },
        discovery::{
            DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource,
            aggregated_discovery_service_client::AggregatedDiscoveryServiceClient,
            aggregated_discovery_service_server::{
                AggregatedDiscoveryService, AggregatedDiscoveryServiceServer,
            },
        },
        security::Authorization,
    },
};
use weft_tests::{Agent, Cluster, Control, Manifests, Mesh, Node, Run, cluster::CONTROL};

/// Where it listens, beside control.
const PORT: u16 = 15013;

/// The go-between; it ends when it is dropped.
pub struct Between {
    root: PathBuf,
    will: Arc<Will>,
    stop: CancellationToken,
}

/// What it is told to do.
#[derive(Default)]
struct Will {
    /// The policy that it spoils.
    spoil: Mutex<Option<String>>,
    /// For how many milliseconds it keeps requests for certificates back.
    slow: AtomicU64,
}

impl Drop for Between {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Between {
    /// Stands between `control` and whoever asks it from now on.
    fn start(cluster: &Cluster, control: &Control) -> Result<Self> {
        let at = SocketAddr::from((CONTROL.addresses.v4, PORT));
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::IpAddress(at.ip())];
        let certificate = params.self_signed(&key)?.pem();
        let root = cluster.run.directory().join("between.pem");
        fs::write(&root, &certificate)?;
        let control = ControlEndpoint {
            url: format!("https://{}:{}", CONTROL.addresses.v4, CONTROL.port),
            root: Some(control.root()),
            server_name: None,
            token: None,
            plaintext: false,
            cluster: String::new(),
        };
        let (will, stop) = (Arc::new(Will::default()), CancellationToken::new());
        let carrier = Carrier { control, will: will.clone() };
        let tls = ServerTlsConfig::new().identity(Identity::from_pem(certificate, key.serialize_pem()));
        let (netns, stopped) = (cluster.control.netns.clone(), stop.clone());
        std::thread::spawn(move || {
            let served = netns.block_on(|| async move {
                let server = Server::builder()
                    .tls_config(tls)?
                    .add_service(AggregatedDiscoveryServiceServer::new(carrier.clone()))
                    .add_service(IstioCertificateServiceServer::new(carrier));
                Ok(server.serve_with_shutdown(at, stopped.cancelled()).await?)
            });
            if let Err(error) = served {
                println!("the go-between ended: {error:#}");
            }
        });
        Ok(Self { root, will, stop })
    }

    /// The bookshop, whose agents reach control through a go-between that does `first` from the beginning.
    pub fn bookshop(purpose: &str, first: impl FnOnce(&Self)) -> Result<(Mesh, Self)> {
        let manifests = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/bookshop");
        let cluster = Cluster::build(Run::unique(purpose)?, Manifests::read(&manifests)?)?;
        let applications = cluster.start_applications()?;
        let control = Control::start(&cluster)?;
        let between = Self::start(&cluster, &control)?;
        first(&between);
        let mut mesh = Mesh { agents: Default::default(), control, applications, cluster };
        for (name, node) in &mesh.cluster.nodes {
            let settings = between.settings(&mesh.control, node)?;
            let agent = Agent::begin(&mesh.cluster, &mesh.control, node, &settings)?;
            mesh.agents.insert(name.clone(), agent);
        }
        Ok((mesh, between))
    }

    /// What an agent is told of control.
    fn settings(&self, control: &Control, node: &Node) -> Result<Map<String, Value>> {
        let told = json!({
            "control": {
                "address": format!("https://{}:{PORT}", CONTROL.addresses.v4),
                "root": self.root,
                "token": control.token(&node.name),
            },
        });
        told.as_object().cloned().context("no settings")
    }

    /// From now on the policy of this name is sent with a block of addresses that is none.
    pub fn spoil(&self, policy: Option<&str>) {
        *spoiled(&self.will) = policy.map(str::to_owned);
    }

    /// From now on each certificate comes this much later.
    pub fn delay_certificates(&self, by: Duration) {
        self.will.slow.store(u64::try_from(by.as_millis()).unwrap_or(u64::MAX), Relaxed);
    }
}

fn spoiled(will: &Will) -> MutexGuard<'_, Option<String>> {
    will.spoil.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Carries what agents and control say to each other.
#[derive(Clone)]
struct Carrier {
    control: ControlEndpoint,
    will: Arc<Will>,
}

impl Carrier {
    async fn channel(&self) -> Result<tonic::transport::Channel, Status> {
        self.control.connect().await.map_err(|error| Status::unavailable(error.to_string()))
    }
}

#[tonic::async_trait]
impl AggregatedDiscoveryService for Carrier {
    type DeltaAggregatedResourcesStream =
        Pin<Box<dyn Stream<Item = Result<DeltaDiscoveryResponse, Status>> + Send>>;

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        let mut client = AggregatedDiscoveryServiceClient::new(self.channel().await?);
        let (metadata, _, said) = request.into_parts();
        let said = said.take_while(|said| futures::future::ready(said.is_ok()));
        let mut request = Request::new(said.filter_map(|said| futures::future::ready(said.ok())));
        *request.metadata_mut() = metadata;
        let answers = client.delta_aggregated_resources(request).await?.into_inner();
        let will = self.will.clone();
        let answers = answers.map(move |answer| {
            let mut answer = answer?;
            let spoiled = spoiled(&will).clone();
            for resource in answer.resources.iter_mut().filter(|r| Some(&r.name) == spoiled.as_ref()) {
                spoil(resource).map_err(|error| Status::internal(error.to_string()))?;
            }
            Ok(answer)
        });
        Ok(Response::new(Box::pin(answers)))
    }
}

/// Gives a policy a source address that has five bytes.
fn spoil(resource: &mut Resource) -> Result<()> {
    let any = resource.resource.as_mut().context("an empty resource")?;
    let mut policy = Authorization::decode(&*any.value)?;
    let matched = policy.groups.iter_mut().flat_map(|g| &mut g.rules).flat_map(|r| &mut r.matches).next();
    let block = matched.and_then(|m| m.source_ips.first_mut()).ok_or_else(|| anyhow!("no address block"))?;
    block.address = vec![1, 2, 3, 4, 5];
    any.value = policy.encode_to_vec();
    Ok(())
}

#[tonic::async_trait]
impl IstioCertificateService for Carrier {
    async fn create_certificate(
        &self,
        request: Request<IstioCertificateRequest>,
    ) -> Result<Response<IstioCertificateResponse>, Status> {
        tokio::time::sleep(Duration::from_millis(self.will.slow.load(Relaxed))).await;
        IstioCertificateServiceClient::new(self.channel().await?).create_certificate(request).await
    }
}
