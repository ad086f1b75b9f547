//! What an inbound connection may do: the decision of the model, and what of a tunnel's request can be believed.

use http::StatusCode;
use std::net::{IpAddr, SocketAddr};
use weft_io::hbone::Authority;
use weft_model::{
    Identity, NetworkAddress, ServiceKey, Snapshot, Workload,
    decide::{self, Verdict},
    policy::Connection,
    snapshot::Target,
    workload::{Gateway, GatewayDestination},
};

/// The ports of node proxies, which no tunnel may lead to: nothing of the application is there, and a proxy that
/// connects to itself is a loop.
const PROXY_PORTS: [u16; 3] = [15001, 15006, 15008];

/// Decides whether `identity` (none for plaintext), at `source_ip`, may reach `workload` at `destination`.
pub fn authorize(
    snapshot: &Snapshot,
    workload: &Workload,
    identity: Option<&Identity>,
    source_ip: IpAddr,
    destination: SocketAddr,
) -> Verdict {
    let connection = Connection {
        identity,
        source_ip,
        destination_ip: destination.ip(),
        destination_port: destination.port(),
    };
    decide::inbound(snapshot, workload, &connection)
}

/// Where a tunnel may lead that arrived for the workload at one of `own`: to a port of that very address.
pub fn target(authority: &Authority, own: &[IpAddr]) -> Result<SocketAddr, StatusCode> {
    match authority {
        Authority::Ip(to) if own.contains(&to.ip()) && !PROXY_PORTS.contains(&to.port()) => Ok(*to),
        _ => Err(StatusCode::BAD_REQUEST),
    }
}

/// Whether `peer`, who proved that identity, may speak for the client at `ip`: the address is its own workload's, or it
/// is a waypoint of `workload`, whose trade is to speak for others.
pub fn may_speak_for(snapshot: &Snapshot, workload: &Workload, peer: &Identity, ip: IpAddr) -> bool {
    let address = NetworkAddress::new(workload.network.clone(), ip);
    snapshot.workload_at(&address).is_some_and(|owner| owner.identity() == *peer)
        || is_waypoint_of(snapshot, workload, peer)
}

fn is_waypoint_of(snapshot: &Snapshot, workload: &Workload, peer: &Identity) -> bool {
    let of_services =
        workload.services.keys().filter_map(|key| snapshot.service(key)?.service.waypoint.as_ref());
    workload.waypoint.iter().chain(of_services).any(|waypoint| is_gateway(snapshot, waypoint, peer))
}

fn is_gateway(snapshot: &Snapshot, gateway: &Gateway, peer: &Identity) -> bool {
    match &gateway.destination {
        GatewayDestination::Service(key) => serves(snapshot, key, peer),
        GatewayDestination::Address(address) => match snapshot.target_at(address) {
            Some(Target::Workload(w)) => w.identity() == *peer,
            Some(Target::Service(s)) => serves(snapshot, &s.service.key, peer),
            None => false,
        },
    }
}

fn serves(snapshot: &Snapshot, service: &ServiceKey, peer: &Identity) -> bool {
    snapshot
        .service(service)
        .is_some_and(|s| s.endpoints.all().iter().any(|e| e.workload.identity() == *peer))
}

#[cfg(test)]
mod tests {
    use super::*;
    use weft_model::{Delta, SnapshotStore, workload::Tunnel};

    #[test]
    fn tunnels_lead_to_the_own_address_only() {
        let own = ["10.0.0.2".parse().unwrap()];
        let target = |s: &str| target(&s.parse().unwrap(), &own);
        assert_eq!(target("10.0.0.2:80"), Ok("10.0.0.2:80".parse().unwrap()));
        for odd in [
            "10.0.0.3:80",
            "127.0.0.1:80",
            "web.shop:80",
            "10.0.0.2:15001",
            "10.0.0.2:15006",
            "10.0.0.2:15008",
        ] {
            assert_eq!(target(odd), Err(StatusCode::BAD_REQUEST), "{odd}");
        }
    }

    #[test]
    fn nobody_speaks_for_an_address_of_another() {
        let workload = |name: &str, ip: &str| {
            let mut w = Workload::new(format!("k//Pod/shop/{name}"), "shop", name, name);
            w.addresses = vec![ip.parse().unwrap()];
            w.tunnel = Tunnel::Hbone;
            w
        };
        let (web, db, mut api) =
            (workload("web", "10.0.0.1"), workload("db", "10.0.0.2"), workload("api", "10.0.0.4"));
        let gate = workload("gate", "10.0.0.3");
        let at = NetworkAddress::new("".into(), "10.0.0.3".parse().unwrap());
        api.waypoint = Some(Gateway { destination: GatewayDestination::Address(at), hbone_port: 15008 });
        let store = SnapshotStore::default();
        let all = [&web, &db, &api, &gate];
        store.apply(all.into_iter().map(|w| Delta::Workload(Box::new(w.clone()))).collect());
        let snapshot = store.load();
        let may = |to: &Workload, peer: &Workload, ip: &str| {
            may_speak_for(&snapshot, to, &peer.identity(), ip.parse().unwrap())
        };
        assert!(may(&db, &web, "10.0.0.1"));
        assert!(!may(&db, &web, "10.0.0.4"));
        assert!(!may(&db, &web, "192.0.2.1"));
        assert!(!may(&db, &gate, "10.0.0.1"));
        assert!(may(&api, &gate, "10.0.0.1"));
    }
}
