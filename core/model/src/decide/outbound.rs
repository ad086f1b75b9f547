//! Where does a connection of a local workload go?

use crate::{
    Identity, Name, NetworkAddress, Reason, Service, ServiceKey, Snapshot, Workload,
    snapshot::{Endpoint, ServiceEntry, Target},
    workload::{Gateway, GatewayDestination, Health},
};
use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

/// The port on which meshed workloads accept HBONE.
pub const HBONE_PORT: u16 = 15008;

/// What to do with an outbound connection.
#[derive(Clone, Debug)]
pub enum Outbound {
    /// Send it through an HBONE tunnel.
    Tunnel(Box<Tunnelled>),
    /// Send it on as plain TCP: the destination is not in the mesh.
    Plain {
        /// Where to connect.
        to: SocketAddr,
        /// The workload there, where it is known.
        workload: Option<Arc<Workload>>,
        /// The service it was addressed to, if any.
        service: Option<Arc<ServiceEntry>>,
    },
    /// Refuse it.
    Refuse {
        /// Why.
        reason: Reason,
        /// The service it was addressed to, if any.
        service: Option<Arc<ServiceEntry>>,
    },
}

/// A connection that goes through a tunnel.
#[derive(Clone, Debug)]
pub struct Tunnelled {
    /// Where TCP connects.
    pub hop: SocketAddr,
    /// The `:authority` of the CONNECT: the final workload's address and port, or the VIP when a waypoint decides.
    pub authority: SocketAddr,
    /// Who may answer there.
    pub expect: Arc<[Identity]>,
    /// The workload at the other end of the tunnel (the waypoint's, when one is passed).
    pub workload: Arc<Workload>,
    /// The service it was addressed to, if any.
    pub service: Option<Arc<ServiceEntry>>,
    /// The tunnel ends at a waypoint, not at the destination.
    pub via_waypoint: bool,
}

/// What the kernel has settled about a connection to a service before it captured it.
///
/// The kernel draws among all endpoints and joins those of its own node by itself. Drawing again without regard to that
/// would give the node's own endpoints more than their share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Drawn {
    /// Nothing.
    #[default]
    Nothing,
    /// An endpoint that it cannot join, whichever.
    Elsewhere,
    /// This endpoint of its own node.
    Endpoint(SocketAddr),
}

/// Decides where the connection of `source` to `to` goes. `rand` chooses among endpoints.
///
/// The order is ztunnel's: a service's waypoint, then an endpoint of the service, or the workload with that address
/// (through its waypoint if it has one); what the mesh does not know goes on untouched.
pub fn outbound(snapshot: &Snapshot, source: &Workload, to: SocketAddr, rand: u64) -> Outbound {
    outbound_drawn(snapshot, source, to, Drawn::Nothing, rand)
}

/// [`outbound`] for a connection about which the kernel has settled something.
pub fn outbound_drawn(
    snapshot: &Snapshot,
    source: &Workload,
    to: SocketAddr,
    drawn: Drawn,
    rand: u64,
) -> Outbound {
    let address = NetworkAddress::new(source.network.clone(), to.ip());
    match snapshot.target_at(&address) {
        Some(Target::Service(service)) => to_service(snapshot, source, service, to, drawn, rand),
        Some(Target::Workload(workload)) => to_workload(snapshot, source, workload, to, rand),
        None => match snapshot.external_at(&address, to.port()).cloned() {
            Some(service) => to_service(snapshot, source, service, to, drawn, rand),
            None => Outbound::Plain { to, workload: None, service: None },
        },
    }
}

fn to_service(
    snapshot: &Snapshot,
    source: &Workload,
    service: Arc<ServiceEntry>,
    to: SocketAddr,
    drawn: Drawn,
    rand: u64,
) -> Outbound {
    if let Some(waypoint) = &service.service.waypoint {
        return through(snapshot, source, waypoint, to, Some(service.clone()), rand);
    }
    let Some(port) = service.service.port(to.port()) else {
        return Outbound::Refuse { reason: Reason::UnknownPort, service: Some(service) };
    };
    let key = &service.service.key;
    let target = |w: &Workload| match w.target_port(key, to.port()) {
        Some(p) => Some(p),
        None => (port.target_port != 0).then_some(port.target_port),
    };
    let usable = |w: &Workload| target(w).is_some() && address_for(w, to.ip(), source).is_some();
    let by_client = service.service.load_balancing.client_affinity.then(|| client(source, to.ip()));
    let any = || {
        let usable = |e: &Endpoint| usable(&e.workload);
        let picked = match by_client {
            // The way to itself, which the kernel would join, leads through a tunnel here.
            Some(client) => service
                .endpoints
                .pick_for(client, |e| e.workload.uid != source.uid && usable(e))
                .or_else(|| service.endpoints.pick_for(client, usable)),
            None => service.endpoints.pick(rand, usable),
        };
        picked.map(|e| e.workload.clone())
    };
    // The snapshot may have moved on since the kernel drew: what it drew from is not there any more.
    let picked = match drawn {
        Drawn::Nothing => any(),
        _ if by_client.is_some() => any(),
        Drawn::Elsewhere => {
            let elsewhere = |e: &Endpoint| !is_joined(&e.workload, source) && usable(&e.workload);
            service.endpoints.pick(rand, elsewhere).map(|e| e.workload.clone()).or_else(any)
        }
        Drawn::Endpoint(at) => snapshot
            .workload_at(&NetworkAddress::new(source.network.clone(), at.ip()))
            .filter(|w| is_endpoint(&service, w) && target(w) == Some(at.port()))
            .cloned()
            .or_else(any),
    };
    let found = picked.and_then(|workload| {
        let ip = address_for(&workload, to.ip(), source)?;
        let port = target(&workload)?;
        Some((workload, SocketAddr::new(ip, port)))
    });
    match found {
        Some((workload, at)) => reach(workload, at, Some(service)),
        None => Outbound::Refuse { reason: Reason::NoHealthyEndpoint, service: Some(service) },
    }
}

fn to_workload(
    snapshot: &Snapshot,
    source: &Workload,
    workload: Arc<Workload>,
    to: SocketAddr,
    rand: u64,
) -> Outbound {
    if let Some(waypoint) = &workload.waypoint
        && !is_behind(snapshot, source, waypoint)
    {
        return through(snapshot, source, waypoint, to, None, rand);
    }
    reach(workload, to, None)
}

/// The address under which the service at `like` sees `source`.
fn client(source: &Workload, like: IpAddr) -> Option<IpAddr> {
    source.addresses.iter().find(|ip| ip.is_ipv4() == like.is_ipv4()).copied()
}

/// Whether new connections to the service may go to `workload`.
fn is_endpoint(entry: &ServiceEntry, workload: &Workload) -> bool {
    let any = entry.service.load_balancing.publish_not_ready;
    let health = if any { Health::Healthy } else { workload.health };
    entry.endpoints.takes(health) && workload.services.contains_key(&entry.service.key)
}

/// Whether the kernel of `source`'s node joins connections to `workload` by itself.
fn is_joined(workload: &Workload, source: &Workload) -> bool {
    workload.is_meshed() && workload.node == source.node
}

/// Sends the connection straight to `workload`, by the protocol that it speaks.
fn reach(workload: Arc<Workload>, at: SocketAddr, service: Option<Arc<ServiceEntry>>) -> Outbound {
    if !workload.is_meshed() {
        return Outbound::Plain { to: at, workload: Some(workload), service };
    }
    let expect = expected(&workload, service.as_deref().map(|s| &s.service));
    let hop = SocketAddr::new(at.ip(), HBONE_PORT);
    Outbound::Tunnel(Box::new(Tunnelled {
        hop,
        authority: at,
        expect,
        workload,
        service,
        via_waypoint: false,
    }))
}

/// Sends the connection to a waypoint, which decides the rest; the authority stays what the application asked for.
fn through(
    snapshot: &Snapshot,
    source: &Workload,
    waypoint: &Gateway,
    to: SocketAddr,
    service: Option<Arc<ServiceEntry>>,
    rand: u64,
) -> Outbound {
    let found = match &waypoint.destination {
        GatewayDestination::Service(key) => pick_of(snapshot, key, to.ip(), source, rand),
        GatewayDestination::Address(address) => match snapshot.target_at(address) {
            Some(Target::Workload(w)) => Some((w, address.ip)),
            Some(Target::Service(s)) => pick_of(snapshot, &s.service.key, to.ip(), source, rand),
            None => None,
        },
    };
    let Some((workload, ip)) = found else {
        return Outbound::Refuse { reason: Reason::UnknownWaypoint, service };
    };
    let expect = expected(&workload, None);
    let hop = SocketAddr::new(ip, waypoint.hbone_port);
    Outbound::Tunnel(Box::new(Tunnelled {
        hop,
        authority: to,
        expect,
        workload,
        service,
        via_waypoint: true,
    }))
}

fn pick_of(
    snapshot: &Snapshot,
    key: &ServiceKey,
    like: IpAddr,
    source: &Workload,
    rand: u64,
) -> Option<(Arc<Workload>, IpAddr)> {
    let service = snapshot.service(key)?;
    let usable = |e: &Endpoint| address_for(&e.workload, like, source).is_some();
    let workload = service.endpoints.pick(rand, usable)?.workload.clone();
    let ip = address_for(&workload, like, source)?;
    Some((workload, ip))
}

/// Whether `source` is itself part of the waypoint: its own traffic must not come back to it.
fn is_behind(snapshot: &Snapshot, source: &Workload, waypoint: &Gateway) -> bool {
    match &waypoint.destination {
        GatewayDestination::Service(key) => source.services.contains_key(key),
        GatewayDestination::Address(address) => match snapshot.target_at(address) {
            Some(Target::Workload(w)) => w.uid == source.uid,
            Some(Target::Service(s)) => source.services.contains_key(&s.service.key),
            None => false,
        },
    }
}

/// The workload's address in the family that was asked for, or any that `source` can speak. A workload of another
/// network cannot be reached by its address at all.
fn address_for(workload: &Workload, like: IpAddr, source: &Workload) -> Option<IpAddr> {
    if workload.network != source.network {
        return None;
    }
    let same = workload.addresses.iter().find(|ip| ip.is_ipv4() == like.is_ipv4());
    let other =
        || workload.addresses.iter().find(|ip| source.addresses.iter().any(|s| s.is_ipv4() == ip.is_ipv4()));
    same.or_else(other).copied()
}

/// Who may answer for `workload`: its own identity, or one that its service names besides.
fn expected(workload: &Workload, service: Option<&Service>) -> Arc<[Identity]> {
    let named = service.into_iter().flat_map(|s| s.subject_alt_names.iter());
    std::iter::once(workload.identity()).chain(named.filter_map(|s: &Name| s.parse().ok())).collect()
}

#[cfg(test)]
mod tests;
