//! Services, as the admin interface tells them.

use crate::admin::proto;
use weft_model::{snapshot::ServiceEntry, workload::Health};

/// One service with its endpoints.
pub fn service(entry: &ServiceEntry) -> proto::Service {
    let s = &entry.service;
    let endpoints = entry.endpoints.all().iter().map(|e| proto::Endpoint {
        workload: format!("{}/{}", e.workload.namespace, e.workload.name),
        addresses: e.workload.addresses.iter().map(ToString::to_string).collect(),
        healthy: e.workload.health == Health::Healthy,
    });
    proto::Service {
        namespace: s.key.namespace.to_string(),
        name: s.name.to_string(),
        hostname: s.key.hostname.to_string(),
        addresses: (s.addresses.iter().chain(&s.external_addresses)).map(|a| a.ip.to_string()).collect(),
        ports: (s.ports.iter())
            .map(|p| proto::ServicePort { port: p.service_port.into(), target_port: p.target_port.into() })
            .collect(),
        waypoint: s.waypoint.as_ref().map(super::gateway).unwrap_or_default(),
        endpoints: endpoints.collect(),
        ready: entry.endpoints.pickable().len().try_into().unwrap_or(u32::MAX),
    }
}
