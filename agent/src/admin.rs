//! What the agent tells about itself: to its own command line over a local socket, and to people, scrapers and probes
//! over HTTP.

pub(crate) mod convert;
mod dump;
pub mod explain;
mod flows;
mod gauges;
mod grpc;
pub mod http;
pub mod proto;
mod socket;
mod status;

pub use convert::{bpf::bpf, control::control, drains::drains};
pub use gauges::{expire_series, gauges};
pub use socket::{SocketError, serve};

use std::{io, net::SocketAddr, sync::Arc, time::SystemTime};
use weft_io::{
    lifecycle::ready::Ready,
    telemetry::{Telemetry, trace::LogHandle},
    tls::CertStatus,
};
use weft_model::{SnapshotStore, Workload};

/// Why a pod's older connections are not told, or not reset.
#[derive(Debug, thiserror::Error)]
#[error("{pod}: {doing}: {source}")]
pub struct OlderError {
    /// Whose.
    pub pod: String,
    /// What could not be done.
    pub doing: &'static str,
    /// Why.
    pub source: io::Error,
}

/// What admin asks of the parts of the agent that it does not hold itself.
pub trait AgentView: Send + Sync + 'static {
    /// The pods of this node that are in the mesh, or should be.
    fn pods(&self) -> Vec<proto::Pod>;
    /// Every identity of this node, and where its certificate stands.
    fn certificates(&self) -> Vec<CertStatus>;
    /// How the stream to the control plane fares; [`control`] makes it from the discovery client's status.
    fn control(&self) -> proto::Control;
    /// The connections of a pod (`namespace/name`), or of all of the node, that are older than its last step into the mesh or
    /// out of it. Asks the kernel: not for the threads of a runtime.
    fn older(&self, pod: &str) -> Result<Vec<proto::OlderConnection>, OlderError>;
    /// Resets those of one pod.
    fn reset_older(&self, pod: &str) -> Result<proto::OlderReset, OlderError>;
    /// The kernel's programs and maps; [`bpf`] makes it from the kernel's figures.
    fn bpf(&self) -> proto::Bpf;
    /// What keeps pods from the mesh until they are known, but for the connections that it refused.
    fn guard(&self) -> Option<proto::Guard>;
    /// What the drains of this node's agents have cut.
    fn drains(&self) -> proto::Drains;
    /// Whether the kernel joins `source` and `destination` at `at` without a proxy.
    fn direct(&self, source: &Workload, destination: &Workload, at: SocketAddr) -> bool;
    /// How pods' traffic reaches the agent: `kernel` or `explicit`.
    fn capture(&self) -> &'static str;
    /// The configuration that the agent runs with, without secrets.
    fn config(&self) -> serde_json::Value;
}

/// Everything that admin answers from.
pub struct Admin {
    /// The node's name.
    pub node: String,
    /// When the agent started.
    pub started: SystemTime,
    /// What the agent knows of the mesh.
    pub snapshots: Arc<SnapshotStore>,
    /// Connections, flows and metrics.
    pub telemetry: Arc<Telemetry>,
    /// The log level.
    pub log: LogHandle,
    /// What is to be done before the agent is ready.
    pub ready: Ready,
    /// The rest.
    pub agent: Arc<dyn AgentView>,
}

#[cfg(test)]
pub(crate) mod sample;
