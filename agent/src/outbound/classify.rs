//! Where an application's connection goes: the decision of the model, with what is told about it.

use std::{net::SocketAddr, sync::Arc};
use weft_io::telemetry::{Direction, Facts, Path};
use weft_model::{
    Snapshot, Workload,
    decide::{self, Drawn, Outbound},
};

/// What to do with a connection, and what is known of it.
pub struct Plan {
    /// What to do.
    pub outbound: Outbound,
    /// What its record begins with.
    pub facts: Facts,
}

/// Decides for the connection of `client`, in `source`, to `destination`, about which the kernel has settled `drawn`.
pub fn classify(
    snapshot: &Snapshot,
    source: &Arc<Workload>,
    client: SocketAddr,
    destination: SocketAddr,
    drawn: Drawn,
    rand: u64,
) -> Plan {
    let outbound = decide::outbound_drawn(snapshot, source, destination, drawn, rand);
    let mut facts = Facts::new(Direction::Outbound, client, destination);
    facts.source = Some(source.clone());
    match &outbound {
        Outbound::Tunnel(tunnel) => {
            facts.path = Path::Tunnel;
            facts.destination_addr = tunnel.authority;
            facts.hbone_addr = Some(tunnel.hop);
            facts.source_identity = Some(source.identity());
            facts.destination_identity = Some(tunnel.workload.identity());
            facts.destination = Some(tunnel.workload.clone());
            facts.service = tunnel.service.clone();
        }
        Outbound::Plain { to, workload, service } => {
            facts.path = if workload.is_some() { Path::Plain } else { Path::Passthrough };
            facts.destination_addr = *to;
            facts.destination = workload.clone();
            facts.service = service.clone();
        }
        Outbound::Refuse { service, .. } => facts.service = service.clone(),
    }
    Plan { outbound, facts }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weft_model::{Delta, SnapshotStore, workload::Tunnel};

    fn workload(name: &str, ip: &str, tunnel: Tunnel) -> Workload {
        let mut w = Workload::new(format!("k//Pod/shop/{name}"), "shop", name, name);
        w.addresses = vec![ip.parse().unwrap()];
        w.tunnel = tunnel;
        w
    }

    #[test]
    fn the_record_says_what_was_decided() {
        let store = SnapshotStore::default();
        let list = [
            workload("web", "10.0.0.1", Tunnel::Hbone),
            workload("db", "10.0.0.2", Tunnel::Hbone),
            workload("old", "10.0.0.3", Tunnel::None),
        ];
        store.apply(list.into_iter().map(|w| Delta::Workload(Box::new(w))).collect());
        let snapshot = store.load();
        let source = snapshot.workload("k//Pod/shop/web").unwrap();
        let plan = |to: &str| {
            let client = "10.0.0.1:4000".parse().unwrap();
            classify(&snapshot, source, client, to.parse().unwrap(), Drawn::Nothing, 0).facts
        };

        let tunnel = plan("10.0.0.2:5432");
        assert_eq!(tunnel.path, Path::Tunnel);
        assert_eq!(tunnel.hbone_addr, Some("10.0.0.2:15008".parse().unwrap()));
        assert_eq!(tunnel.destination.unwrap().name.as_ref(), "db");
        assert_eq!(plan("10.0.0.3:80").path, Path::Plain);
        let away = plan("192.0.2.1:443");
        assert_eq!((away.path, away.destination), (Path::Passthrough, None));
        assert_eq!(away.source.unwrap().name.as_ref(), "web");
    }
}
