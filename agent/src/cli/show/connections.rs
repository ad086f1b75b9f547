//! Connections and flows as rows.

use super::{full_name, or_dash, short_identity, units};
use crate::{
    admin::proto::{Connection, Flow, OlderConnection, Peer},
    cli::output::Row,
};

/// A peer by name and address.
fn peer(peer: Option<&Peer>) -> String {
    match peer {
        None => "-".to_owned(),
        Some(p) if p.workload.is_empty() => p.address.clone(),
        Some(p) => format!("{} ({})", full_name(&p.namespace, &p.workload), p.address),
    }
}

/// The authenticated client, where there is one.
fn identity(p: Option<&Peer>) -> String {
    short_identity(p.map(|p| p.identity.as_str()).unwrap_or_default())
}

impl Row for Connection {
    const HEAD: &'static [&'static str] =
        &["ID", "DIRECTION", "PATH", "FROM", "TO", "CLIENT", "AGE", "TO SERVER", "TO CLIENT", "RTT"];
    const EMPTY: &'static str = "no connections live now";

    fn cells(&self) -> Vec<String> {
        vec![
            self.id.to_string(),
            self.direction.clone(),
            if self.open { self.path.clone() } else { format!("{} (opening)", self.path) },
            peer(self.source.as_ref()),
            peer(self.destination.as_ref()),
            identity(self.source.as_ref()),
            units::duration(self.duration_ms),
            units::bytes(self.bytes_to_server),
            units::bytes(self.bytes_to_client),
            units::micros(self.rtt_us),
        ]
    }
}

impl Row for OlderConnection {
    const HEAD: &'static [&'static str] = &["POD", "DIRECTION", "LOCAL", "PEER", "SERVICE", "OLDER THAN"];
    const EMPTY: &'static str = "no connection is older than its pod's place in the mesh";

    fn cells(&self) -> Vec<String> {
        let ago = units::apart(&self.since, jiff::Timestamp::now());
        vec![
            full_name(&self.namespace, &self.pod),
            self.direction.clone(),
            self.local.clone(),
            peer(self.peer.as_ref()),
            or_dash(&*self.service),
            format!("{} the mesh {} ago", self.change, ago.map_or_else(String::new, |(time, _)| time)),
        ]
    }
}

impl Row for Flow {
    const HEAD: &'static [&'static str] =
        &["TIME", "EVENT", "VERDICT", "PATH", "FROM", "TO", "CLIENT", "DETAIL"];
    const EMPTY: &'static str = "no flows; --follow waits for some";

    fn cells(&self) -> Vec<String> {
        let nothing = Connection::default();
        let c = self.connection.as_ref().unwrap_or(&nothing);
        // The date says little on a screen; JSON has it.
        let time = self.time.split_once('T').map_or(self.time.as_str(), |(_, time)| time);
        vec![
            time.trim_end_matches('Z').to_owned(),
            self.event.clone(),
            self.verdict.clone(),
            format!("{} {}", c.direction, c.path),
            peer(c.source.as_ref()),
            peer(c.destination.as_ref()),
            identity(c.source.as_ref()),
            detail(self, c),
        ]
    }
}

/// What the last column says: how it ended and what went over it.
fn detail(flow: &Flow, c: &Connection) -> String {
    let mut parts = Vec::new();
    if !flow.reason.is_empty() && flow.reason != "ok" {
        parts.push(flow.reason.clone());
    }
    if !c.policy.is_empty() {
        parts.push(format!("policy {}", c.policy));
    }
    if flow.event == "close" || c.bytes_to_server + c.bytes_to_client > 0 {
        parts.push(format!("{} →, {} ←", units::bytes(c.bytes_to_server), units::bytes(c.bytes_to_client)));
    }
    if flow.event == "close" {
        parts.push(units::duration(c.duration_ms));
    }
    if c.retransmits > 0 {
        parts.push(format!("{} retransmits", c.retransmits));
    }
    or_dash(parts.join(", "))
}
