//! What the maps should say.

use super::{
    local::{Local, LocalPod},
    pairs, plain,
};
use rustc_hash::FxHashMap;
use std::net::IpAddr;
use weft_ebpf_abi::{
    Addr, Backend, BackendKey, Destination, Endpoint, PairKey, PlainKey, Service, destination, service,
};
use weft_model::{Name, Snapshot, snapshot::ServiceEntry};

/// The contents of the maps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Desired {
    /// `DESTINATIONS`.
    pub destinations: FxHashMap<Addr, Destination>,
    /// `SERVICES`.
    pub services: FxHashMap<Endpoint, Service>,
    /// `BACKENDS`.
    pub backends: FxHashMap<BackendKey, Backend>,
    /// `PAIRS`.
    pub pairs: FxHashMap<PairKey, u32>,
    /// `PLAIN`.
    pub plain: FxHashMap<PlainKey, u32>,
}

impl Desired {
    /// What a node of `network` with these enrolled pods needs. A pod whose workload is not (yet) known is captured, and
    /// nothing is direct to or from it.
    ///
    /// Addresses of other networks are left out: they may be the same ones and mean others.
    pub fn of(snapshot: &Snapshot, network: &Name, pods: &[LocalPod]) -> Self {
        let locals: Vec<Local<'_>> = pods
            .iter()
            .filter_map(|pod| Some(Local { pod, workload: snapshot.workload(&pod.uid)? }))
            .collect();
        let mut desired = Self::default();
        for workload in snapshot.workloads().filter(|w| w.is_meshed() && w.network == *network) {
            let known = Destination {
                cookie: 0,
                kind: destination::WORKLOAD,
                flags: to_agent(workload.waypoint.is_some()),
            };
            for ip in &workload.addresses {
                desired.destinations.insert((*ip).into(), known);
            }
        }
        for local in &locals {
            let open = pairs::of(snapshot, local, &locals, &mut desired.pairs);
            plain::of(snapshot, local, &mut desired.plain);
            let guarded = local.workload.always_encrypt || local.workload.waypoint.is_some();
            let flags = to_agent(guarded) | if open { destination::ALLOW_ALL } else { 0 };
            let known = Destination { cookie: local.pod.cookie, kind: destination::WORKLOAD, flags };
            for ip in local.workload.addresses.iter().chain(&local.pod.addresses) {
                desired.destinations.insert((*ip).into(), known);
            }
        }
        let by_uid: FxHashMap<&str, &Local<'_>> = locals.iter().map(|l| (&*l.pod.uid, l)).collect();
        let mut from_outside = Vec::new();
        for entry in snapshot.services() {
            for vip in entry.service.addresses.iter().filter(|a| a.network == *network) {
                desired.add_service(entry, vip.ip, 0, &by_uid, network);
            }
            from_outside.extend(entry.service.external_addresses.iter().map(|a| (a, entry)));
        }
        // What the mesh itself has at an address counts before what comes from outside.
        from_outside.retain(|(a, _)| a.network == *network && snapshot.target_at(a).is_none());
        for (address, entry) in from_outside {
            desired.add_service(entry, address.ip, destination::EXTERNAL, &by_uid, network);
        }
        desired
    }

    /// One virtual address of a service. It wins over a workload's own, as it does in the model.
    fn add_service(
        &mut self,
        entry: &ServiceEntry,
        vip: IpAddr,
        flags: u32,
        locals: &FxHashMap<&str, &Local<'_>>,
        network: &Name,
    ) {
        let is_outside = entry.service.waypoint.is_none()
            && entry.endpoints.all().iter().all(|endpoint| !endpoint.workload.is_meshed());
        let flags = flags | if is_outside { destination::OUTSIDE } else { 0 };
        let known = Destination { cookie: 0, kind: destination::SERVICE, flags };
        // Services that share an address from outside differ in their ports; it is outside of the mesh if all of them are.
        let at = self.destinations.entry(vip.into()).or_insert(known);
        *at = Destination { flags: if at.kind == known.kind { at.flags & flags } else { flags }, ..known };
        let is_drawn_by_agent =
            entry.service.waypoint.is_some() || entry.service.load_balancing.client_affinity;
        for port in &entry.service.ports {
            let at = Endpoint::new(vip.into(), port.service_port);
            let mut found =
                Service { total: 0, local: 0, flags: if is_drawn_by_agent { service::TO_AGENT } else { 0 } };
            for endpoint in entry.endpoints.pickable() {
                let workload = &endpoint.workload;
                let target = workload
                    .target_port(&entry.service.key, port.service_port)
                    .or((port.target_port != 0).then_some(port.target_port));
                let (Some(target), true) = (target, workload.network == *network) else { continue };
                let same = workload.addresses.iter().find(|ip| ip.is_ipv4() == vip.is_ipv4());
                // An endpoint of the other family alone is the agent's to reach: sockets cannot change theirs.
                if same.is_none() && workload.addresses.is_empty() {
                    continue;
                }
                found.total += 1;
                if let (Some(ip), true) = (same, locals.contains_key(&*workload.uid)) {
                    let key = BackendKey { service: at, index: found.local };
                    self.backends.insert(key, Endpoint::new((*ip).into(), target));
                    found.local += 1;
                }
            }
            self.services.insert(at, found);
        }
    }
}

fn to_agent(yes: bool) -> u32 {
    if yes { destination::TO_AGENT } else { 0 }
}
