//! The model's values in the words of the admin interface.

pub mod bpf;
pub mod certificate;
pub mod connection;
pub mod control;
pub mod drains;
pub mod policy;
pub mod service;
pub mod workload;

use std::time::SystemTime;
use weft_model::workload::{Gateway, GatewayDestination};

/// `at` in RFC 3339, UTC, to the millisecond; empty for a time that no calendar has.
pub fn time(at: SystemTime) -> String {
    jiff::Timestamp::try_from(at).map(|t| format!("{t:.3}")).unwrap_or_default()
}

fn gateway(gateway: &Gateway) -> String {
    match &gateway.destination {
        GatewayDestination::Address(a) => format!("{}:{}", a.ip, gateway.hbone_port),
        GatewayDestination::Service(s) => format!("{s}:{}", gateway.hbone_port),
    }
}
