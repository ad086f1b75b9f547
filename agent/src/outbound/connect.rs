//! Carrying out the decision: a tunnel, a plain connection, or a refusal.

use crate::{
    lanes::Lane,
    pods::{Application, Pod, sockets},
};
use std::{
    io,
    net::{IpAddr, SocketAddr},
    num::NonZero,
    sync::Arc,
};
use tokio::net::TcpStream;
use weft_io::{
    hbone::{Authority, Baggage, Forwarded, HboneError, PoolKey, Stream, Traceparent, client::Connect},
    telemetry::Record,
};
use weft_model::{
    Reason, Workload,
    decide::{Outbound, Tunnelled},
};

/// The way to the destination.
pub enum Upstream {
    /// A stream of a tunnel.
    Tunnel(Stream),
    /// A connection of its own.
    Plain(TcpStream),
}

/// Opens the way that was decided on.
pub async fn open(
    lane: &Lane,
    pod: &Arc<Pod>,
    source: &Arc<Workload>,
    outbound: Outbound,
    client: SocketAddr,
    record: &Record,
) -> Result<Upstream, Reason> {
    match outbound {
        Outbound::Tunnel(tunnel) => {
            // What the servers' side logs of this connection can be found by it.
            let trace = Traceparent::new(rand::random(), rand::random());
            record.update(|facts| facts.trace = NonZero::new(trace.trace_id));
            open_tunnel(lane, pod, source, &tunnel, client, trace).await.map(Upstream::Tunnel)
        }
        Outbound::Plain { to, .. } => {
            match dial(pod.clone(), plain_at(lane, to), own_address(pod, source, client, to)).await {
                Ok(tcp) => Ok(Upstream::Plain(tcp)),
                Err(error) => {
                    lane.note_shortage(&pod.spec, &error);
                    tracing::debug!(pod = %pod.spec, %to, %error, "cannot connect");
                    Err(connect_reason(&error))
                }
            }
        }
        Outbound::Refuse { reason, .. } => Err(reason),
    }
}

async fn open_tunnel(
    lane: &Lane,
    pod: &Arc<Pod>,
    source: &Arc<Workload>,
    tunnel: &Tunnelled,
    client: SocketAddr,
    trace: Traceparent,
) -> Result<Stream, Reason> {
    let identity = source.identity();
    let cert = lane.shared.certs.certificate(&identity).await.map_err(|error| {
        tracing::debug!(pod = %pod.spec, %identity, %error, "no certificate for an outbound connection");
        Reason::NoCertificate
    })?;
    let from = own_address(pod, source, client, tunnel.hop);
    let key = PoolKey {
        source: identity,
        expect: tunnel.expect.clone(),
        addr: tunnel.hop,
        // A pod whose addresses control has not told yet shares its identity with others, and must not share their tunnels.
        source_ip: from.unwrap_or(client.ip()),
    };
    let connect = Connect {
        authority: Authority::from(tunnel.authority),
        forwarded: Some(Forwarded::from(client)),
        baggage: Some(baggage(source)),
        traceparent: Some(trace),
    };
    let hop = lane.shared.peers.get(&tunnel.hop.ip()).and_then(|peer| peer.hbone).unwrap_or(tunnel.hop);
    let netns = pod.clone();
    let dial = move || dial(netns.clone(), hop, from);
    lane.pool.open(&key, &cert, dial, &connect).await.map_err(|error| {
        if let HboneError::Connect { source, .. } = &error {
            lane.note_shortage(&pod.spec, source);
        }
        tracing::debug!(pod = %pod.spec, %hop, %error, "no tunnel");
        error.reason()
    })
}

/// Where a destination outside the mesh is reached.
fn plain_at(lane: &Lane, to: SocketAddr) -> SocketAddr {
    let elsewhere = lane.shared.peers.get(&to.ip()).and_then(|peer| peer.plain);
    elsewhere.map_or(to, |ip| SocketAddr::new(ip, to.port()))
}

/// Connects from inside the pod. The kernel lets the agent's own connections pass.
async fn dial(pod: Arc<Pod>, to: SocketAddr, from: Option<IpAddr>) -> io::Result<TcpStream> {
    let socket = sockets::open(&pod.netns, to)?;
    if let Some(ip) = from {
        sockets::bind_address(&socket, ip)?;
    }
    sockets::connect(socket, to).await
}

/// The address that the application connected from, where it can be kept: one of the pod's own (an application may bind
/// one of several), and of the family of `to`. Otherwise routing chooses.
fn own_address(pod: &Pod, source: &Workload, client: SocketAddr, to: SocketAddr) -> Option<IpAddr> {
    if pod.application != Application::InPod {
        return None;
    }
    let ip = client.ip();
    (ip.is_ipv4() == to.is_ipv4() && source.addresses.contains(&ip)).then_some(ip)
}

fn baggage(source: &Workload) -> Baggage {
    Baggage {
        cluster: source.cluster.clone(),
        namespace: source.namespace.clone(),
        kind: source.workload_type.as_str().into(),
        workload: source.workload_name.clone(),
        service: source.canonical_name.clone(),
        revision: source.canonical_revision.clone(),
    }
}

/// The reason to record for a plain connection that failed.
pub fn connect_reason(error: &io::Error) -> Reason {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Reason::ConnectionRefused,
        io::ErrorKind::TimedOut => Reason::ConnectTimeout,
        _ if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)) => Reason::LimitReached,
        _ => Reason::ConnectFailed,
    }
}
