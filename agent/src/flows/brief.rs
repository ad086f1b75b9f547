//! Connections that opened and ended between two looks at the kernel's events. They may be many, and few of them differ in more
//! than their client's port: what they have in common is found once for each state of the mesh.

use super::{
    facts::{Seen, told},
    reason_of,
};
use crate::kernel::{self, Flow, Verdict};
use rustc_hash::FxHashMap;
use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::SystemTime,
};
use weft_io::telemetry::{Brief, ENDED_KEPT, Template, Worker};
use weft_model::{Snapshot, WorkloadUid};

/// Templates that are kept at most. Those of clients from outside may be as many as there are addresses.
const MOST: usize = 4096;

/// Who the pods of this node are, by the cookie of their network namespace.
type Pods = Arc<FxHashMap<u64, WorkloadUid>>;

/// What is known of connections that are alike.
#[derive(Default)]
pub struct Templates {
    /// What they were made of.
    made_of: Option<(u64, Pods)>,
    /// One for each side that is told.
    known: FxHashMap<Alike, Vec<Template>>,
}

/// What connections of one template have in common.
#[derive(PartialEq, Eq, Hash)]
struct Alike {
    source: u64,
    destination: Option<u64>,
    client: IpAddr,
    original: SocketAddr,
    backend: Option<SocketAddr>,
    verdict: Verdict,
}

impl Templates {
    /// Tells of `flows`, each of them established and over.
    pub fn tell(&mut self, worker: &Worker, snapshot: &Snapshot, pods: &Pods, flows: &mut Vec<Flow>) {
        self.renew(snapshot, pods);
        let mut briefs = worker.briefs();
        let (now, wall) = (kernel::now(), SystemTime::now());
        // All others would be forgotten for the last ones, each of which may be told from two sides.
        let forgotten = flows.len().saturating_sub(ENDED_KEPT / 2);
        for (index, flow) in flows.drain(..).enumerate() {
            let Some(client) = flow.client else { continue };
            let brief = Brief {
                client,
                ended: wall.checked_sub(now.saturating_sub(flow.updated)).unwrap_or(wall),
                duration: flow.updated.saturating_sub(flow.opened),
                to_server: flow.bytes_sent,
                to_client: flow.bytes_received,
                rtt_micros: flow.srtt.as_micros().try_into().unwrap_or(u32::MAX),
                retransmits: flow.retransmits,
                reason: reason_of(flow.ending),
            };
            for template in self.of(&flow, client.ip(), worker, snapshot, pods) {
                briefs.tell(template, &brief, index >= forgotten);
            }
        }
    }

    /// Forgets what was found in another state of the mesh.
    fn renew(&mut self, snapshot: &Snapshot, pods: &Pods) {
        let holds =
            self.made_of.as_ref().is_some_and(|(version, of)| *version == snapshot.version && of == pods);
        if !holds || self.known.len() > MOST {
            self.known.clear();
            self.made_of = Some((snapshot.version, pods.clone()));
        }
    }

    fn of(
        &mut self,
        flow: &Flow,
        client: IpAddr,
        worker: &Worker,
        snapshot: &Snapshot,
        pods: &Pods,
    ) -> &[Template] {
        let Flow { source, destination, original, backend, verdict, .. } = *flow;
        let alike = Alike { source, destination, client, original, backend, verdict };
        self.known.entry(alike).or_insert_with(|| {
            let facts = told(snapshot, flow, Seen::of(flow, snapshot, pods));
            facts.into_iter().map(|facts| worker.template(facts)).collect()
        })
    }
}
