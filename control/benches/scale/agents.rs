//! Nodes that listen: each takes what it is sent, counts it, and says that it took it.

use crate::{Agents, objects, say};
use anyhow::{Context, Result, ensure};
use prost::Message;
use std::{
    io::BufRead,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Request;
use weft_io::discovery::{
    ControlEndpoint,
    convert::Kind,
    proto::{
        discovery::{
            DeltaDiscoveryRequest, DeltaDiscoveryResponse,
            aggregated_discovery_service_client::AggregatedDiscoveryServiceClient,
        },
        workload::{Address, address},
    },
};

/// So many nodes connect at once: a handshake must not wait for thousands of others.
const CONNECTING: usize = 64;

/// What the nodes count together.
#[derive(Default)]
struct Counted {
    bytes: AtomicUsize,
    resources: AtomicUsize,
    /// Milliseconds from a change to its arrival.
    delays: Mutex<Vec<u64>>,
}

/// Connects `count` nodes, and answers when it is asked until its input ends.
pub fn run(dir: &Path, url: &str, count: usize, resources: usize) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(listen(dir, url, count, resources))
}

async fn listen(dir: &Path, url: &str, count: usize, resources: usize) -> Result<()> {
    let endpoint = ControlEndpoint {
        url: url.to_owned(),
        root: Some(dir.join("root.pem")),
        server_name: None,
        token: Some(dir.join("state/tokens/node")),
        plaintext: false,
        cluster: "Kubernetes".into(),
    };
    let counted = Arc::new(Counted::default());
    let (synced, mut watched) = watch::channel(0);
    let connecting = Arc::new(Semaphore::new(CONNECTING));
    let began = Instant::now();
    for _ in 0..count {
        let (endpoint, counted, synced) = (endpoint.clone(), counted.clone(), synced.clone());
        let connecting = connecting.clone();
        tokio::spawn(async move {
            if let Err(error) = node(&endpoint, &connecting, &counted, &synced, resources).await {
                // What is measured without it is something else.
                eprintln!("a node's stream ended: {error:#}");
                std::process::exit(1);
            }
        });
    }
    drop(synced);
    watched.wait_for(|n| *n == count).await.context("a node was not told everything")?;
    let first = counted.bytes.swap(0, Relaxed) / count;
    counted.resources.store(0, Relaxed);
    let mut said =
        Agents { synced: began.elapsed().as_secs_f64(), first, since: 0, resources: 0, delay: [0.0; 2] };
    say(&said)?;
    let (asked, mut asks) = mpsc::channel(1);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if asked.blocking_send(line).is_err() {
                break;
            }
        }
    });
    while asks.recv().await.is_some() {
        // What is on its way arrives.
        tokio::time::sleep(Duration::from_secs(1)).await;
        said.since = counted.bytes.load(Relaxed) / count;
        said.resources = counted.resources.load(Relaxed) / count;
        let mut delays = counted.delays.lock().unwrap_or_else(PoisonError::into_inner);
        delays.sort_unstable();
        let at = |share: f64| delays.get((delays.len() as f64 * share) as usize).copied().unwrap_or_default();
        said.delay = [at(0.5) as f64, at(0.99) as f64];
        say(&said)?;
    }
    Ok(())
}

/// One node; `synced` counts those that hold `expected` addresses.
async fn node(
    endpoint: &ControlEndpoint,
    connecting: &Semaphore,
    counted: &Counted,
    synced: &watch::Sender<usize>,
    expected: usize,
) -> Result<()> {
    let (requests, outgoing) = mpsc::channel(16);
    for kind in Kind::ALL {
        let first = DeltaDiscoveryRequest { type_url: kind.type_url().to_owned(), ..<_>::default() };
        requests.send(first).await?;
    }
    let mut request = Request::new(ReceiverStream::new(outgoing));
    endpoint.authorize(&mut request).await?;
    let place = connecting.acquire().await?;
    let mut client =
        AggregatedDiscoveryServiceClient::new(endpoint.connect().await?).max_decoding_message_size(64 << 20);
    let mut responses = client.delta_aggregated_resources(request).await?.into_inner();
    drop(place);
    let mut held = 0;
    while let Some(response) = responses.message().await? {
        counted.bytes.fetch_add(response.encoded_len(), Relaxed);
        counted.resources.fetch_add(response.resources.len(), Relaxed);
        let is_address = response.type_url == Kind::Address.type_url();
        if is_address && held < expected {
            held += response.resources.len();
            if held >= expected {
                synced.send_modify(|n| *n += 1);
            }
        } else if let Some(stamp) = stamp(&response).filter(|stamp| *stamp > 0) {
            let mut delays = counted.delays.lock().unwrap_or_else(PoisonError::into_inner);
            delays.push(objects::now().saturating_sub(stamp));
        }
        let answer = DeltaDiscoveryRequest {
            type_url: response.type_url,
            response_nonce: response.nonce,
            ..<_>::default()
        };
        requests.send(answer).await?;
    }
    ensure!(held >= expected, "control closed the stream");
    Ok(())
}

/// When the first resource of a response was made.
fn stamp(response: &DeltaDiscoveryResponse) -> Option<u64> {
    let any = response.resources.first()?.resource.as_ref()?;
    match Address::decode(&*any.value).ok()?.r#type? {
        address::Type::Workload(workload) => workload.canonical_revision.parse().ok(),
        address::Type::Service(_) => None,
    }
}
