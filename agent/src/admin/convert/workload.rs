//! Workloads, as the admin interface tells them.

use crate::admin::proto;
use weft_model::{
    Workload,
    workload::{Health, Tunnel},
};

/// One workload.
pub fn workload(w: &Workload) -> proto::Workload {
    proto::Workload {
        uid: w.uid.to_string(),
        namespace: w.namespace.to_string(),
        name: w.name.to_string(),
        addresses: w.addresses.iter().map(ToString::to_string).collect(),
        network: w.network.to_string(),
        node: w.node.to_string(),
        identity: w.identity().to_string(),
        tunnel: match w.tunnel {
            Tunnel::Hbone => "HBONE".to_owned(),
            Tunnel::None => "NONE".to_owned(),
        },
        healthy: w.health == Health::Healthy,
        workload_name: w.workload_name.to_string(),
        workload_type: w.workload_type.as_str().to_owned(),
        cluster: w.cluster.to_string(),
        waypoint: w.waypoint.as_ref().map(super::gateway).unwrap_or_default(),
        services: w.services.keys().map(ToString::to_string).collect(),
        policies: w.policies.iter().map(ToString::to_string).collect(),
        host_network: w.host_network,
        always_encrypt: w.always_encrypt,
    }
}
