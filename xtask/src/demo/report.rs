//! What the demo found, as data.

use super::{calls::Answer, claims::Claims, cost::Cost};
use serde::Serialize;
use serde_json::{Value, json};
use weft_tests::{kernel::Missing, wire::Wire};

/// All of it; the output of `--output json`.
#[derive(Default, Serialize)]
pub struct Report {
    /// How pods' traffic reached the agents.
    pub mode: Mode,
    /// What this machine lacks for capture.
    pub missing: Vec<Missing>,
    /// The calls without a mesh.
    pub bare_calls: Vec<Answer>,
    /// The same calls with one.
    pub mesh_calls: Vec<Answer>,
    /// What crossed the link between the nodes while the mesh carried them.
    pub wire: Vec<Value>,
    /// Flows that the agents told of.
    pub flows: Vec<Value>,
    /// What the mesh costs on each path.
    pub costs: Vec<Cost>,
    /// What was claimed, and whether it was seen.
    pub claims: Claims,
    /// What was not even tried, since this machine or mode cannot show it.
    pub not_shown: Vec<NotShown>,
}

/// How pods' traffic reaches the agents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// The kernel captures it.
    #[default]
    Captured,
    /// Applications are pointed at the agents.
    Explicit,
}

/// A claim that was not tried.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct NotShown {
    /// What would be claimed.
    pub claim: &'static str,
    /// What it takes to show it.
    pub needs: &'static str,
}

impl Report {
    /// Keeps what is worth telling of the wire.
    pub fn keep_wire(&mut self, wire: &Wire) {
        let told = wire.streams.iter().map(|(direction, stream)| {
            json!({
                "from": direction.from,
                "to": direction.to,
                "bytes": stream.payload.len(),
                "tls": stream.is_tls(),
            })
        });
        self.wire = told.collect();
    }
}
