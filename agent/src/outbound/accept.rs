//! An application's connection, from its acceptance to its end.

use super::{
    classify::{Plan, classify},
    connect::{self, Upstream},
    door::Door,
};
use crate::{
    kernel::{Arrival, ArrivalKind},
    lanes::{Accepted, Closing, Lane, Permit, reset},
    pods::Pod,
};
use std::{future::Future, net::SocketAddr, pin::Pin, rc::Rc, sync::Arc};
use tokio::net::TcpStream;
use weft_io::{
    lifecycle::drain::Watcher,
    relay::{self, RelayEnd, Side},
    telemetry::Record,
};
use weft_model::{Reason, decide::Drawn};

/// Takes a captured connection, for which the kernel knows where it was meant to go.
pub fn accept(lane: Rc<Lane>, accepted: Accepted) -> impl Future<Output = ()> {
    carry(async move {
        let Accepted { pod, tcp, client, local, permit, drain } = accepted;
        let arrival = lane.arrivals.as_ref().and_then(|a| a.find(pod.cookie(), client, local));
        let Some(arrival) = arrival.filter(|a| a.kind == ArrivalKind::Captured) else {
            // Somebody found the listener's port and connected to it: nothing was captured, so nothing is known.
            tracing::debug!(pod = %pod.spec, %client, "a connection that was not captured; refused");
            reset(tcp);
            return None;
        };
        let asked = (arrival.original, drawn(&arrival));
        open(lane, pod, (tcp, client), asked, (drain, permit), Door::Captured).await
    })
}

/// Takes a connection whose application says where it wants to go.
pub fn accept_asked(lane: Rc<Lane>, accepted: Accepted, door: Door) -> impl Future<Output = ()> {
    carry(async move {
        let Accepted { pod, mut tcp, client, permit, drain, .. } = accepted;
        let asked = door.ask(&mut tcp).await;
        let snapshot = lane.shared.store.load();
        let found = asked.and_then(|asked| {
            let source = pod.workload(&snapshot)?;
            // To the mesh it is the workload that connects, and not some port of this host.
            let own = source.addresses.first().copied().unwrap_or(client.ip());
            Some((asked.resolve(&snapshot, source)?, SocketAddr::new(own, client.port())))
        });
        drop(snapshot);
        let Some((destination, client)) = found else {
            tracing::debug!(pod = %pod.spec, %client, "an application asked for nothing that is known");
            door.refuse(tcp, Reason::BadRequest).await;
            return None;
        };
        open(lane, pod, (tcp, client), (destination, Drawn::Nothing), (drain, permit), door).await
    })
}

/// What the kernel has settled about a connection before it captured it.
fn drawn(arrival: &Arrival) -> Drawn {
    match arrival.backend {
        Some(endpoint) => Drawn::Endpoint(endpoint),
        None if arrival.remote_only => Drawn::Elsewhere,
        None => Drawn::Nothing,
    }
}

/// What is left to do once the way of a connection is open.
type Relaying = Pin<Box<dyn Future<Output = ()>>>;

/// Carries a connection, once `opening` has led to one.
fn carry(opening: impl Future<Output = Option<Relaying>> + 'static) -> impl Future<Output = ()> {
    // One after the other on the heap: a connection that is held for hours should not keep room for how it began.
    let opening = Box::pin(opening);
    async move {
        if let Some(relaying) = opening.await {
            relaying.await;
        }
    }
}

/// Opens the way for the connection of `client`, an application in `pod`, to `destination`. Where it comes to nothing, all
/// has been said.
///
/// The application's own connect has succeeded already. Whatever fails from here on reaches it as a reset, never as a
/// clean end; and nothing waits for its first byte, since the server may be the one to speak first.
async fn open(
    lane: Rc<Lane>,
    pod: Arc<Pod>,
    (mut tcp, client): (TcpStream, SocketAddr),
    (destination, drawn): (SocketAddr, Drawn),
    (drain, permit): (Watcher, Permit),
    door: Door,
) -> Option<Relaying> {
    let snapshot = lane.shared.store.load();
    let Some(source) = pod.workload(&snapshot).cloned() else {
        reset(tcp);
        return None;
    };
    let Plan { outbound, facts } = classify(&snapshot, &source, client, destination, drawn, rand::random());
    drop(snapshot);
    let record = lane.records.record(facts);
    let closing = Closing::new(pod.clone(), drain);
    let opened = tokio::select! {
        opened = connect::open(&lane, &pod, &source, outbound, client, &record) => opened,
        () = closing.wait(&record) => Err(closing.cause()),
    };
    let upstream = match opened {
        Ok(upstream) => upstream,
        Err(reason) => {
            door.refuse(tcp, reason).await;
            record.finish(reason);
            return None;
        }
    };
    record.open();
    if door.welcome(&mut tcp).await.is_err() {
        record.finish(Reason::ClientReset);
        return None;
    }
    // An application that does not want its small writes delayed has said so on a socket that we cannot see.
    let _ = tcp.set_nodelay(true);
    Some(match upstream {
        Upstream::Tunnel(stream) => Box::pin(async move {
            let meter = record.counters().meter(Side::Left);
            let end = relay::tunnel(tcp, stream, &meter, closing.wait(&record)).await;
            finish(record, &closing, end, permit);
        }),
        Upstream::Plain(server) => Box::pin(async move {
            let meter = record.counters().meter(Side::Left);
            let end = relay::plain(tcp, server, &meter, closing.wait(&record)).await;
            finish(record, &closing, end, permit);
        }),
    })
}

/// Says how the connection ended, and makes room for another.
fn finish(record: Record, closing: &Closing, end: RelayEnd, permit: Permit) {
    record.finish(closing.reason(end, Side::Left));
    drop(permit);
}
