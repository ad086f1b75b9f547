//! Pods of a node, from the moment at which one is placed there: before it has a sandbox, an address, or a place in the mesh.

use crate::Name;
use serde::{Deserialize, Serialize};

/// A pod as its node's agent is told of it. Pods that share their node's network are none of the agent's business, and are
/// not told.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodePod {
    /// The uid by which the node's cgroups name it. Another pod of the same name has another one.
    pub uid: Name,
    /// Its namespace.
    pub namespace: Name,
    /// Its name.
    pub name: Name,
    /// The node that it is placed on.
    pub node: Name,
    /// Whether it takes part in the mesh.
    pub meshed: bool,
}
