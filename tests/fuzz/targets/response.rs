//! A whole discovery response, applied: the snapshot holds what was sent and nothing after it was taken back, and every
//! decision made from it makes sense.
#![no_main]

use libfuzzer_sys::fuzz_target;
use prost::Message;
use std::net::SocketAddr;
use weft_io::discovery::{
    Kind,
    convert::{decode, gone, name_of},
    proto::discovery::DeltaDiscoveryResponse,
};
use weft_model::{
    Delta, Snapshot, SnapshotStore, Workload,
    decide::{Outbound, outbound},
};

/// Beyond this many sources and destinations a response only costs time.
const MOST: usize = 8;

fuzz_target!(|data: &[u8]| {
    let Ok(response) = DeltaDiscoveryResponse::decode(data) else { return };
    let Some(kind) = Kind::from_type_url(&response.type_url) else { return };
    let mut deltas = Vec::new();
    for resource in &response.resources {
        match decode(kind, resource) {
            Ok(delta) => deltas.push(delta),
            Err(refused) => weft_fuzz::check_error(&refused),
        }
    }
    let store = SnapshotStore::default();
    store.apply(deltas.clone());
    let snapshot = store.load();
    for (i, delta) in deltas.iter().enumerate() {
        let replaced = deltas[i + 1..].iter().any(|later| name_of(later) == name_of(delta));
        if !replaced {
            check_held(&snapshot, delta);
        }
    }
    check_decisions(&snapshot);

    let taken_back = deltas.iter().map(name_of).filter_map(|(entity, name)| gone(entity, &name));
    store.apply(taken_back.collect());
    let empty = store.load();
    assert_eq!(empty.workloads().count() + empty.services().count() + empty.policies().count(), 0);
    for delta in &deltas {
        if let Delta::Workload(w) = delta {
            assert!(w.network_addresses().all(|a| empty.target_at(&a).is_none()));
        }
    }
});

fn check_held(snapshot: &Snapshot, delta: &Delta) {
    match delta {
        Delta::Workload(w) => {
            assert_eq!(snapshot.workload(&w.uid).as_deref().map(|held| &**held), Some(&**w))
        }
        Delta::Service(s) => assert_eq!(snapshot.service(&s.key).map(|held| &held.service), Some(s)),
        Delta::Policy(p) => assert_eq!(snapshot.policy(&p.key).map(|held| &**held), Some(p)),
        Delta::ServiceGone(key) => assert!(snapshot.service(key).is_none()),
        Delta::NodePod(p) => assert_eq!(snapshot.node_pods().get(&p.uid), Some(p)),
        Delta::WorkloadGone(_) | Delta::PolicyGone(_) | Delta::NodePodGone(_) => unreachable!("no resource says so"),
    }
}

fn check_decisions(snapshot: &Snapshot) {
    let workloads: Vec<_> = snapshot.workloads().take(MOST).collect();
    let mut destinations: Vec<SocketAddr> = Vec::new();
    for service in snapshot.services().take(MOST) {
        for address in service.service.addresses.iter().take(MOST) {
            let ports = service.service.ports.iter().take(MOST).map(|p| p.service_port);
            destinations.extend(ports.map(|port| SocketAddr::new(address.ip, port)));
        }
    }
    for workload in &workloads {
        destinations.extend(workload.addresses.iter().take(MOST).map(|ip| SocketAddr::new(*ip, 80)));
    }
    for source in workloads {
        for to in destinations.iter().filter(|to| to.port() != 0) {
            check_decision(snapshot, source, *to);
        }
    }
}

fn check_decision(snapshot: &Snapshot, source: &Workload, to: SocketAddr) {
    match outbound(snapshot, source, to, 7) {
        Outbound::Tunnel(tunnel) => {
            assert!(!tunnel.expect.is_empty(), "a tunnel to nobody in particular");
            assert_ne!((tunnel.hop.port(), tunnel.authority.port()), (0, 0));
            assert_ne!(tunnel.authority.port(), 0, "a tunnel that leads to no port");
        }
        Outbound::Plain { to, .. } => assert_ne!(to.port(), 0, "a connection to no port"),
        Outbound::Refuse { .. } => {}
    }
}
