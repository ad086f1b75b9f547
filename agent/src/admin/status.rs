//! `status`: how the agent fares, at a glance.

use super::{
    Admin, convert,
    proto::{Bpf, Certificate, Drop, Guard, Status, Totals},
};
use std::time::SystemTime;
use weft_io::{
    telemetry::Telemetry,
    tls::{CertState, CertStatus},
};

/// How the agent fares now.
pub fn status(admin: &Admin) -> Status {
    let snapshot = admin.snapshots.load();
    let waiting_for: Vec<_> = admin.ready.pending().iter().map(|s| (*s).to_owned()).collect();
    let certificates = admin.agent.certificates();
    let bpf = admin.agent.bpf();
    Status {
        node: admin.node.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started: convert::time(admin.started),
        ready: waiting_for.is_empty(),
        waiting_for,
        control: Some(admin.agent.control()),
        pods: admin.agent.pods(),
        totals: Some(Totals {
            workloads: snapshot.workloads().count() as u64,
            services: snapshot.services().count() as u64,
            policies: snapshot.policies().count() as u64,
            certificates: certificates.len() as u64,
            connections: admin.telemetry.connections.len() as u64,
            snapshot_version: snapshot.version,
        }),
        capture: admin.agent.capture().to_owned(),
        log: admin.log.current(),
        failing_certificates: failing(&certificates),
        next_expiry: next_expiry(&certificates).map(convert::time).unwrap_or_default(),
        drops: drops(&admin.telemetry, &bpf),
        guard: admin.agent.guard().map(|guard| Guard { refused: guarded(&bpf), ..guard }),
        drains: Some(admin.agent.drains()),
    }
}

/// Connections that the guard refused.
pub fn guarded(bpf: &Bpf) -> u64 {
    bpf.counters.iter().find(|counter| counter.name == "guarded").map_or(0, |counter| counter.value)
}

/// Certificates are renewed at half of their life: one that is valid and whose renewal failed is on its way to expiry.
fn failing(certificates: &[CertStatus]) -> Vec<Certificate> {
    let is_failing = |c: &&CertStatus| {
        matches!(c.state, CertState::Failed | CertState::Expired | CertState::Early) || c.last_error.is_some()
    };
    let mut failing: Vec<_> =
        certificates.iter().filter(is_failing).map(convert::certificate::certificate).collect();
    failing.sort_by(|a, b| a.identity.cmp(&b.identity));
    failing
}

fn next_expiry(certificates: &[CertStatus]) -> Option<SystemTime> {
    certificates.iter().filter(|c| c.state == CertState::Valid).filter_map(|c| c.not_after).min()
}

fn drops(telemetry: &Telemetry, bpf: &Bpf) -> Vec<Drop> {
    let kernel = bpf.counters.iter().filter_map(|counter| {
        let what = counter.name.strip_suffix("_lost")?;
        Some(Drop { what: format!("kernel {}", what.replace('_', " ")), count: counter.value })
    });
    let own = [
        ("access log lines", telemetry.access_log.dropped()),
        ("flow events", telemetry.flows.dropped()),
        ("metric series", telemetry.metrics.series.overflowed()),
    ];
    let own = own.map(|(what, count)| Drop { what: what.to_owned(), count });
    let shortages = telemetry.metrics.shortages();
    let shortages = shortages.map(|(what, count)| Drop { what: what.to_owned(), count });
    kernel.chain(own).chain(shortages).filter(|drop| drop.count > 0).collect()
}
