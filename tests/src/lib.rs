//! The harness that scenarios, the demo and the benchmarks run in: nodes and pods as network namespaces on one machine,
//! real applications in the pods, the real `weft-control` and `weft-agent` binaries beside them.
//!
//! Everything made here carries its run's name (see [`run`]), so that it can be removed by name, by the run itself or by
//! a later one that finds it left behind.
#![forbid(unsafe_code)]

pub mod agent;
pub mod app;
pub mod bench;
pub mod binaries;
pub mod capture;
pub mod cgroup;
pub mod cluster;
mod congestion;
pub mod control;
pub mod disk;
pub mod http;
pub mod interrupt;
mod ip;
pub mod kernel;
pub mod link;
pub mod loopback;
pub mod manifests;
pub mod mesh;
pub mod netns;
pub mod process;
pub mod recorder;
pub mod run;
pub mod sweep;
mod wait;
pub mod wire;

pub use agent::Agent;
pub use capture::Capture;
pub use cluster::{Cluster, Node, Pod};
pub use control::Control;
pub use kernel::{require_kernel, require_namespaces};
pub use link::Link;
pub use loopback::Loopback;
pub use manifests::Manifests;
pub use mesh::Mesh;
pub use netns::Netns;
pub use process::{Place, Process};
pub use run::Run;
pub use wait::eventually;
