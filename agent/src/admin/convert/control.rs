//! The stream to the control plane, as the admin interface tells it.

use crate::admin::proto;
use weft_io::discovery::{client::Status, skew::Skew};

/// How the discovery client fares.
pub fn control(status: &Status) -> proto::Control {
    let synced = status.synced.addresses && status.synced.policies;
    proto::Control {
        address: status.control.clone(),
        connected: status.connected,
        since: super::time(status.since),
        from_cache: status.restored.is_some() && !synced,
        last_error: status.last_error.clone().unwrap_or_default(),
        refused: (status.refused.iter())
            .map(|(resource, error)| proto::RefusedResource {
                resource: resource.clone(),
                error: error.clone(),
            })
            .collect(),
        responses: status.responses,
        refusals: status.refusals,
        cache_error: status.cache_error.clone().unwrap_or_default(),
        version: status.version.clone().unwrap_or_default(),
        version_apart: status.skew() == Skew::Apart,
    }
}
