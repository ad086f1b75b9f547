//! What the demo found, as data.

use super::{calls::Answer, claims::Claims, cost::Cost};
use serde::Serialize;
use serde_json::Value;

/// All of it; the output of `--output json`.
#[derive(Default, Serialize)]
pub struct Report {
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
}
