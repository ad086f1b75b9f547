//! A node as it is: the agent's client, and the snapshot that it keeps.

use crate::{control::token, generate::CLOCK};
use std::{
    io::BufRead,
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use weft_io::discovery::{ClientConfig, ControlEndpoint, NodeIdentity, Sink, client::Client};
use weft_model::{Delta, Snapshot, SnapshotStore};

/// The endpoint of control for node `number`.
pub fn endpoint(dir: &Path, address: &str, number: usize) -> ControlEndpoint {
    ControlEndpoint {
        url: format!("https://{address}"),
        root: Some(dir.join("root.pem")),
        server_name: None,
        token: Some(token(dir, number)),
        plaintext: false,
        cluster: "Kubernetes".into(),
    }
}

#[derive(Default)]
struct Keeper {
    store: SnapshotStore,
    lags: Mutex<Vec<u64>>,
}

impl Sink for Keeper {
    fn apply(&self, deltas: Vec<Delta>) {
        let clock = deltas.iter().rev().find_map(|delta| match delta {
            Delta::Workload(w) if &*w.name == CLOCK => w.canonical_revision.parse::<u64>().ok(),
            _ => None,
        });
        self.store.apply(deltas);
        if let Some(then) = clock {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as u64;
            self.lags.lock().unwrap().push(now.saturating_sub(then));
        }
    }

    fn snapshot(&self) -> Arc<Snapshot> {
        self.store.load()
    }
}

/// Runs until its input ends; answers each line there with how long changes took.
pub fn run(dir: &Path, address: &str) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let keeper = Arc::new(Keeper::default());
    let config = ClientConfig {
        endpoint: endpoint(dir, address, 0),
        node: NodeIdentity {
            ip: "127.0.0.1".parse().unwrap(),
            pod: "agent".into(),
            namespace: "weft-system".into(),
            node: "node-0".into(),
        },
        cache: None,
        backoff: (Duration::from_millis(20), Duration::from_millis(200)),
        node_pods: false,
        ready: None,
    };
    let (client, mut status) = Client::new(config, keeper.clone());
    runtime.spawn(client.run());
    runtime.block_on(async { status.wait_for(|s| s.has_state()).await.map(drop) }).unwrap();
    println!("synced");
    for line in std::io::stdin().lock().lines() {
        line.unwrap();
        let mut lags = std::mem::take(&mut *keeper.lags.lock().unwrap());
        lags.sort_unstable();
        let at = |part: f64| {
            lags.get(((lags.len() as f64 - 1.0) * part) as usize).map_or(0.0, |l| *l as f64 / 1e3)
        };
        println!("{:.0} ms, {:.0} ms at the 99th percentile, {:.0} ms at most", at(0.5), at(0.99), at(1.0));
    }
}
