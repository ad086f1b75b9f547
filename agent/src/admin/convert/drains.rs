//! What drains have cut, as the admin interface tells it.

use crate::{admin::proto, drains::Drained};
use std::time::{Duration, SystemTime};

/// What is known.
pub fn drains(known: &Drained) -> proto::Drains {
    let ended = SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(known.ended_ms));
    proto::Drains {
        count: known.drains,
        cut_outbound: known.cut.outbound,
        cut_inbound: known.cut.inbound,
        last_cut_outbound: known.last.outbound,
        last_cut_inbound: known.last.inbound,
        last_ended: ended.filter(|_| known.drains > 0).map(super::time).unwrap_or_default(),
        error: String::new(),
    }
}
