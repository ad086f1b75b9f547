//! Where does a connection of a local workload go?

use crate::{
    Identity, Name, NetworkAddress, Reason, Service, ServiceKey, Snapshot, Workload,
    snapshot::{Endpoint, ServiceEntry, Target},
    workload::{Gateway, GatewayDestination},
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

/// Decides where the connection of `source` to `to` goes. `rand` chooses among endpoints.
///
/// The order is ztunnel's: a service's waypoint, then an endpoint of the service, or the workload with that address
/// (through its waypoint if it has one); what the mesh does not know goes on untouched.
pub fn outbound(snapshot: &Snapshot, source: &Workload, to: SocketAddr, rand: u64) -> Outbound {
    let address = NetworkAddress::new(source.network.clone(), to.ip());
    match snapshot.target_at(&address) {
        Some(Target::Service(service)) => to_service(snapshot, source, service, to, rand),
        Some(Target::Workload(workload)) => to_workload(snapshot, source, workload, to, rand),
        None => Outbound::Plain { to, workload: None, service: None },
    }
}

fn to_service(
    snapshot: &Snapshot,
    source: &Workload,
    service: Arc<ServiceEntry>,
    to: SocketAddr,
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
    let picked = service
        .endpoints
        .pick(rand, |e| target(&e.workload).is_some() && address_for(&e.workload, to.ip(), source).is_some());
    let found = picked.and_then(|Endpoint { workload }| {
        let ip = address_for(workload, to.ip(), source)?;
        Some((workload.clone(), SocketAddr::new(ip, target(workload)?)))
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
