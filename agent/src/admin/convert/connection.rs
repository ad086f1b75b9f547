//! Connections and flows, as the admin interface tells them.

use crate::admin::proto;
use std::time::SystemTime;
use weft_io::telemetry::{FlowEvent, Live};
use weft_model::{Identity, Reason, Workload};

/// One connection, as it stands now.
pub fn connection(live: &Live) -> proto::Connection {
    let facts = live.facts();
    let peer = |address: std::net::SocketAddr, w: Option<&Workload>, id: Option<&Identity>| proto::Peer {
        address: address.to_string(),
        namespace: w.map(|w| w.namespace.to_string()).unwrap_or_default(),
        workload: w.map(|w| w.name.to_string()).unwrap_or_default(),
        identity: id.map(ToString::to_string).unwrap_or_default(),
    };
    proto::Connection {
        id: live.id,
        direction: facts.direction.as_str().to_owned(),
        path: facts.path.as_str().to_owned(),
        source: Some(peer(facts.source_addr, facts.source.as_deref(), facts.source_identity.as_ref())),
        destination: Some(peer(
            facts.destination_addr,
            facts.destination.as_deref(),
            facts.destination_identity.as_ref(),
        )),
        service: facts.service.as_ref().map(|s| s.service.key.hostname.to_string()).unwrap_or_default(),
        hbone_address: facts.hbone_addr.map(|a| a.to_string()).unwrap_or_default(),
        security: facts.security().as_str().to_owned(),
        policy: facts.policy.as_ref().map(ToString::to_string).unwrap_or_default(),
        started: super::time(live.started_at()),
        duration_ms: live.age().as_millis().try_into().unwrap_or(u64::MAX),
        bytes_to_server: live.counters.to_server(),
        bytes_to_client: live.counters.to_client(),
        rtt_us: live.counters.rtt_micros(),
        retransmits: live.counters.retransmits(),
        open: live.is_open(),
        trace_id: facts.trace.map(|id| format!("{id:032x}")).unwrap_or_default(),
    }
}

/// One event of a connection's life.
pub fn flow(event: FlowEvent, at: SystemTime, live: &Live, reason: Option<Reason>) -> proto::Flow {
    proto::Flow {
        time: super::time(at),
        event: event.as_str().to_owned(),
        verdict: verdict(reason).to_owned(),
        reason: reason.map(|r| r.as_str().to_owned()).unwrap_or_default(),
        connection: Some(connection(live)),
    }
}

/// What became of it, in one word: `allowed`, `denied` by policy, or `failed`.
pub fn verdict(reason: Option<Reason>) -> &'static str {
    match reason.map(Reason::response_flags) {
        None | Some("-") => "allowed",
        Some("DENY") => "denied",
        Some(_) => "failed",
    }
}
