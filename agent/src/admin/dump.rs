//! `/config_dump`: everything the agent holds, under the keys that ztunnel's dump has.

use super::{Admin, convert};
use serde_json::{Value, json};

/// The whole state as one JSON object.
pub fn config_dump(admin: &Admin) -> Value {
    let snapshot = admin.snapshots.load();
    let mut workloads: Vec<_> = snapshot.workloads().cloned().collect();
    workloads.sort_by(|a, b| a.uid.cmp(&b.uid));
    let mut services: Vec<_> = snapshot.services().cloned().collect();
    services.sort_by(|a, b| a.service.key.cmp(&b.service.key));
    let mut policies: Vec<_> = snapshot.policies().cloned().collect();
    policies.sort_by(|a, b| a.key.cmp(&b.key));
    let mut certificates: Vec<_> =
        admin.agent.certificates().iter().map(convert::certificate::certificate).collect();
    certificates.sort_by(|a, b| a.identity.cmp(&b.identity));
    let connections: Vec<_> =
        admin.telemetry.connections.snapshot().iter().map(|c| convert::connection::connection(c)).collect();
    json!({
        "workloads": workloads.iter().map(|w| json!(**w)).collect::<Vec<_>>(),
        "services": services.iter().map(|s| {
            let endpoints: Vec<_> = s.endpoints.all().iter().map(|e| &*e.workload.uid).collect();
            let mut service = json!(s.service);
            service["endpoints"] = json!(endpoints);
            service
        }).collect::<Vec<_>>(),
        "policies": policies.iter().map(|p| json!(**p)).collect::<Vec<_>>(),
        "certificates": certificates,
        "config": admin.agent.config(),
        "version": { "version": env!("CARGO_PKG_VERSION"), "snapshot": snapshot.version },
        "workloadState": { "pods": admin.agent.pods(), "connections": connections },
    })
}
