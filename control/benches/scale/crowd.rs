//! Many nodes that only acknowledge: each comes with the versions that it holds, as after a restart of control.

use crate::node::endpoint;
use std::{collections::BTreeMap, io::BufRead, path::Path, sync::Arc};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use weft_io::discovery::{
    convert::Kind,
    proto::discovery::{
        DeltaDiscoveryRequest, aggregated_discovery_service_client::AggregatedDiscoveryServiceClient,
    },
};

type Held = [BTreeMap<String, String>; 2];
const KINDS: [Kind; 2] = [Kind::Authorization, Kind::Address];

/// Runs until its input ends.
pub fn run(dir: &Path, address: &str, count: usize) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        // One learns everything, and what it holds the others say to hold.
        let (held, learnt) = mpsc::channel(1);
        tokio::spawn(node(dir.to_owned(), address.to_owned(), 1000, Arc::default(), held));
        let held: Arc<Held> = Arc::new({ learnt }.recv().await.unwrap());
        let (told, mut synced) = mpsc::channel(count);
        for number in 1..=count {
            // A hundred at a time would only wait for each other.
            tokio::spawn(node(dir.to_owned(), address.to_owned(), number, held.clone(), told.clone()));
            if number % 10 == 0 {
                for _ in 0..10 {
                    synced.recv().await.unwrap();
                }
            }
        }
        for _ in 0..count % 10 {
            synced.recv().await.unwrap();
        }
    });
    println!("held");
    for line in std::io::stdin().lock().lines() {
        line.unwrap();
    }
}

/// One node; tells what it holds once it has everything.
async fn node(
    dir: std::path::PathBuf,
    address: String,
    number: usize,
    held: Arc<Held>,
    told: mpsc::Sender<Held>,
) {
    let endpoint = endpoint(&dir, &address, number);
    let (requests, outgoing) = mpsc::channel(8);
    for (at, kind) in KINDS.into_iter().enumerate() {
        let request = DeltaDiscoveryRequest {
            type_url: kind.type_url().into(),
            initial_resource_versions: held[at].clone().into_iter().collect(),
            ..DeltaDiscoveryRequest::default()
        };
        requests.send(request).await.unwrap();
    }
    let is_first = held.iter().all(BTreeMap::is_empty);
    drop(held);
    let mut request = tonic::Request::new(ReceiverStream::new(outgoing));
    endpoint.authorize(&mut request).await.unwrap();
    let mut client = AggregatedDiscoveryServiceClient::new(endpoint.connect().await.unwrap())
        .max_decoding_message_size(256 << 20)
        .max_encoding_message_size(256 << 20);
    let mut responses = client.delta_aggregated_resources(request).await.unwrap().into_inner();
    let (mut learnt, mut whole, mut told) = (Held::default(), [false; 2], Some(told));
    while let Some(response) = responses.message().await.unwrap() {
        let at = usize::from(response.type_url != KINDS[0].type_url());
        if is_first && told.is_some() {
            learnt[at].extend(response.resources.iter().map(|r| (r.name.clone(), r.version.clone())));
        }
        whole[at] |= !response.more_follows;
        let request = DeltaDiscoveryRequest {
            type_url: response.type_url,
            response_nonce: response.nonce,
            ..DeltaDiscoveryRequest::default()
        };
        requests.send(request).await.unwrap();
        if whole == [true; 2]
            && let Some(told) = told.take()
        {
            told.send(std::mem::take(&mut learnt)).await.unwrap();
        }
    }
}
