//! Weft's domain: workloads, services, identities and policies, held in immutable snapshots, and the decisions made
//! from them.
//!
//! Nothing here does I/O, and nothing here knows a kernel layout, a protobuf or a Kubernetes type: those are turned into
//! these types at the rim (`weft-io`'s discovery, `weft-index`, the agent's `kernel`).
#![forbid(unsafe_code)]

pub mod address;
pub mod clip;
pub mod decide;
pub mod delta;
pub mod identity;
pub mod node_pod;
pub mod policy;
pub mod reason;
pub mod service;
pub mod snapshot;
pub mod workload;

pub use address::NetworkAddress;
pub use clip::clip;
pub use delta::Delta;
pub use identity::Identity;
pub use node_pod::NodePod;
pub use policy::{Policy, PolicyKey};
pub use reason::Reason;
pub use service::{Service, ServiceKey};
pub use snapshot::{Snapshot, SnapshotStore};
pub use workload::{Workload, WorkloadUid};

/// A shared, immutable string: names repeat across workloads, so they are stored once and counted.
pub type Name = std::sync::Arc<str>;
