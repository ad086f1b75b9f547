//! An inbound connection, from its acceptance to its end: plain TCP, or a stream of a tunnel.

use super::{
    authorize::{authorize, may_speak_for, target},
    deliver::{Client, deliver},
    revoke::overtaken,
};
use crate::{
    lanes::{Accepted, Closing, Lane, reset},
    outbound::connect_reason,
    pods::{Application, Pod},
};
use http::StatusCode;
use std::{future::Future, net::SocketAddr, num::NonZero, pin::Pin, rc::Rc, sync::Arc};
use weft_io::{
    hbone::{HeldTunnel, Incoming, ServeError, serve},
    lifecycle::drain::Watcher,
    relay::{self, Side},
    telemetry::{Direction, Facts, Path},
};
use weft_model::{Identity, NetworkAddress, Reason, Snapshot, Workload};

/// Takes a connection that came without a tunnel.
pub async fn accept_plain(lane: Rc<Lane>, accepted: Accepted) {
    let Accepted { pod, tcp, client, local, permit: _permit, drain } = accepted;
    let snapshot = lane.shared.store.load();
    let Some(workload) = pod.workload(&snapshot).cloned() else {
        reset(tcp);
        return;
    };
    let mut facts = facts(&snapshot, &workload, client, local);
    let verdict = authorize(&snapshot, &workload, None, client.ip(), local);
    facts.policy = verdict.policy;
    let record = lane.records.record(facts);
    let overtaken = || overtaken(&lane.shared.store, snapshot.version, record.live());
    if let Some(reason) = verdict.refused.or_else(overtaken) {
        reset(tcp);
        return record.finish(reason);
    }
    drop(snapshot);
    // The port cannot be kept: with it, the application's socket would have the very tuple of the one accepted here.
    let from = Client { ip: client.ip(), port: None };
    let closing = Closing::new(pod.clone(), drain);
    let delivered = tokio::select! {
        delivered = deliver(&pod, from, local) => delivered,
        () = closing.wait(&record) => {
            reset(tcp);
            return record.finish(closing.cause());
        }
    };
    let app = match delivered {
        Ok(app) => app,
        Err(error) => {
            lane.note_shortage(&pod.spec, &error);
            tracing::debug!(pod = %pod.spec, %client, %local, %error, "cannot deliver");
            reset(tcp);
            return record.finish(connect_reason(&error));
        }
    };
    record.open();
    let _ = tcp.set_nodelay(true);
    let end = relay::plain(tcp, app, &record.counters().meter(Side::Left), closing.wait(&record)).await;
    record.finish(closing.reason(end, Side::Left));
}

/// Takes a tunnel connection; each stream of it is a connection of its own.
pub async fn accept_hbone(lane: Rc<Lane>, accepted: Accepted) {
    let Accepted { pod, tcp, client: hop, local, permit: _permit, drain } = accepted;
    let Some(identity) = pod.workload(&lane.shared.store.load()).map(|w| w.identity()) else {
        reset(tcp);
        return;
    };
    let cert = match lane.shared.certs.certificate(&identity).await {
        Ok(cert) => cert,
        Err(error) => {
            tracing::debug!(pod = %pod.spec, %identity, %error, "no certificate for an inbound tunnel");
            reset(tcp);
            return;
        }
    };
    let _ = tcp.set_nodelay(true);
    let handler = {
        let (lane, pod, drain) = (lane.clone(), pod.clone(), drain.clone());
        move |incoming| {
            let tunnel = Tunnel { lane: lane.clone(), pod: pod.clone(), hop, local, drain: drain.clone() };
            tunnel.carry(incoming)
        }
    };
    let metrics = &lane.shared.telemetry.metrics;
    let _held = HeldTunnel::new(metrics.tunnels_held(Direction::Inbound));
    let served = tokio::select! {
        served = serve(tcp, cert.server_config(), &lane.shared.tunnels, drain, handler) => served,
        () = pod.gone() => return,
    };
    match served {
        Ok(()) => {}
        Err(error @ (ServeError::Tls(_) | ServeError::HandshakeTimeout)) => {
            metrics.tls_failures("server").inc();
            let snapshot = lane.shared.store.load();
            if let Some(workload) = pod.workload(&snapshot) {
                lane.records.record(facts(&snapshot, workload, hop, local)).finish(Reason::TlsFailure);
            }
            if let Some(others) = lane.refusals.due() {
                tracing::info!(pod = %pod.spec, peer = %hop, %error, others, "a tunnel was refused");
            }
        }
        Err(error) => tracing::debug!(pod = %pod.spec, peer = %hop, %error, "a tunnel ended"),
    }
}

/// What a tunnel's streams have in common.
struct Tunnel {
    lane: Rc<Lane>,
    pod: Arc<Pod>,
    /// The other end of the TCP connection.
    hop: SocketAddr,
    /// This end of it.
    local: SocketAddr,
    drain: Watcher,
}

impl Tunnel {
    /// Carries one stream.
    fn carry(self, incoming: Incoming) -> impl Future<Output = ()> {
        // One after the other on the heap: a connection that is held for hours should not keep room for how it began.
        let admission = Box::pin(self.admit(incoming));
        async move {
            if let Some(relaying) = admission.await {
                relaying.await;
            }
        }
    }

    /// Decides on one stream and connects it to the application. Where it comes to nothing, all has been said.
    async fn admit(self, incoming: Incoming) -> Option<Relaying> {
        let Self { lane, pod, hop, local, drain } = self;
        let snapshot = lane.shared.store.load();
        let Some(workload) = pod.workload(&snapshot).cloned() else {
            incoming.refuse(StatusCode::SERVICE_UNAVAILABLE);
            return None;
        };
        let (from, mut facts) = originator(&snapshot, &workload, &incoming, hop, local);
        let own = match pod.application {
            Application::InPod => &[local.ip()],
            Application::At(_) => &*workload.addresses,
        };
        let to = match target(&incoming.authority, own) {
            Ok(to) => to,
            Err(status) => {
                if let Some(others) = lane.refusals.due() {
                    tracing::info!(pod = %pod.spec, peer = %incoming.peer, authority = %incoming.authority, others,
                        "a tunnel to where none may lead was refused");
                }
                lane.records.record(facts).finish(Reason::BadRequest);
                incoming.refuse(status);
                return None;
            }
        };
        let Some(permit) = lane.shared.admission.enter() else {
            lane.note_full(&pod.spec);
            lane.records.record(facts).finish(Reason::LimitReached);
            incoming.refuse(StatusCode::SERVICE_UNAVAILABLE);
            return None;
        };
        facts.destination_addr = to;
        let verdict = authorize(&snapshot, &workload, Some(&incoming.peer), from.ip, to);
        facts.policy = verdict.policy;
        let record = lane.records.record(facts);
        let overtaken = || overtaken(&lane.shared.store, snapshot.version, record.live());
        if let Some(reason) = verdict.refused.or_else(overtaken) {
            incoming.refuse(StatusCode::UNAUTHORIZED);
            record.finish(reason);
            return None;
        }
        drop(snapshot);
        let closing = Closing::new(pod.clone(), drain);
        let delivered = tokio::select! {
            delivered = deliver(&pod, from, to) => delivered,
            // Dropping the request resets the stream.
            () = closing.wait(&record) => {
                record.finish(closing.cause());
                return None;
            }
        };
        let app = match delivered {
            Ok(app) => app,
            Err(error) => {
                lane.note_shortage(&pod.spec, &error);
                tracing::debug!(pod = %pod.spec, client = %from.ip, %to, %error, "cannot deliver");
                incoming.refuse(StatusCode::SERVICE_UNAVAILABLE);
                record.finish(connect_reason(&error));
                return None;
            }
        };
        let Ok(stream) = incoming.accept() else {
            reset(app);
            record.finish(Reason::ClientReset);
            return None;
        };
        record.open();
        Some(Box::pin(async move {
            let meter = record.counters().meter(Side::Right);
            let end = relay::tunnel(app, stream, &meter, closing.wait(&record)).await;
            record.finish(closing.reason(end, Side::Right));
            drop(permit);
        }))
    }
}

/// What is left to do once a stream leads to the application.
type Relaying = Pin<Box<dyn Future<Output = ()>>>;

/// Whom a stream comes from: the client that the peer speaks for where it may, else the peer itself.
fn originator(
    snapshot: &Snapshot,
    workload: &Arc<Workload>,
    incoming: &Incoming,
    hop: SocketAddr,
    local: SocketAddr,
) -> (Client, Facts) {
    let believed = incoming.forwarded.filter(|f| may_speak_for(snapshot, workload, &incoming.peer, f.ip));
    let client = match believed {
        Some(forwarded) => Client { ip: forwarded.ip, port: forwarded.port },
        None => Client { ip: hop.ip(), port: None },
    };
    let source = SocketAddr::new(client.ip, client.port.unwrap_or(0));
    let mut facts = facts(snapshot, workload, source, local);
    facts.path = Path::Tunnel;
    facts.trace = incoming.traceparent.and_then(|t| NonZero::new(t.trace_id));
    facts.hbone_addr = Some(local);
    facts.source_identity = Some(Identity::clone(&incoming.peer));
    facts.destination_identity = Some(workload.identity());
    (client, facts)
}

/// What is known of any connection to `workload`.
pub fn facts(snapshot: &Snapshot, workload: &Arc<Workload>, client: SocketAddr, local: SocketAddr) -> Facts {
    let mut facts = Facts::new(Direction::Inbound, client, local);
    let address = NetworkAddress::new(workload.network.clone(), client.ip());
    facts.source = snapshot.workload_at(&address).cloned();
    facts.path = if facts.source.is_some() { Path::Plain } else { Path::Passthrough };
    facts.destination = Some(workload.clone());
    facts
}
