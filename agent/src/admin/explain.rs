//! `explain`: what would become of a connection, in words.

pub mod resolve;
mod words;

pub use resolve::Unresolved;

use super::{Admin, proto};
use std::sync::Arc;
use weft_model::{
    Snapshot, Workload,
    decide::{self, Way},
};

/// Explains a connection from the pod `from` to `to`, as people write them.
pub fn explain(admin: &Admin, from: &str, to: &str) -> Result<proto::Explanation, Unresolved> {
    let snapshot = admin.snapshots.load();
    let source = resolve::pod(&snapshot, from)?;
    let address = resolve::target(&snapshot, &source, to)?;
    let found = decide::explain(&snapshot, &source, address, 0, |workload, at| {
        admin.agent.direct(&source, workload, at)
    });
    Ok(tell(admin, &snapshot, &source, to, address, &found))
}

fn tell(
    admin: &Admin,
    snapshot: &Snapshot,
    source: &Arc<Workload>,
    to: &str,
    address: std::net::SocketAddr,
    found: &decide::Explanation,
) -> proto::Explanation {
    let peer = |w: &Workload, address: String| proto::Peer {
        address,
        namespace: w.namespace.to_string(),
        workload: w.name.to_string(),
        identity: w.identity().to_string(),
    };
    let certificate = words::certificate(&admin.agent.certificates(), source);
    let (ready, total) = found
        .service
        .as_ref()
        .map(|s| (s.endpoints.pickable().len() as u32, s.endpoints.all().len() as u32))
        .unwrap_or_default();
    let verdict = found.verdict.as_ref();
    proto::Explanation {
        from: Some(peer(source, source.addresses.first().map(ToString::to_string).unwrap_or_default())),
        to: to.to_owned(),
        to_address: address.to_string(),
        service: found.service.as_ref().map(|s| s.service.key.to_string()).unwrap_or_default(),
        destination: found.destination.as_ref().map(|w| peer(w, found.at.to_string())),
        endpoints_ready: ready,
        endpoints_total: total,
        path: words::path(&found.way).to_owned(),
        hbone_address: match found.way {
            Way::Tunnel { hop, .. } => hop.to_string(),
            _ => String::new(),
        },
        waypoint: match (&found.way, &found.destination) {
            (Way::Tunnel { waypoint: true, .. }, Some(w)) => format!("{}/{}", w.namespace, w.name),
            _ => String::new(),
        },
        expected_identities: found.expect.iter().map(ToString::to_string).collect(),
        verdict: words::verdict(found).to_owned(),
        reason: found.refused().map(|r| r.as_str().to_owned()).unwrap_or_default(),
        policy: verdict.and_then(|v| v.policy.as_ref()).map(ToString::to_string).unwrap_or_default(),
        dry_run_policy: verdict.and_then(|v| v.dry_run.as_ref()).map(ToString::to_string).unwrap_or_default(),
        steps: words::steps(snapshot, source, to, address, found, &certificate),
        certificate,
    }
}
