//! The pods of this node: where they come from, how they are entered, what the agent sets up inside.

pub mod beside;
pub mod connected;
pub mod enrol;
pub mod listeners;
pub mod netns;
pub mod older;
pub mod plan;
pub mod pod;
pub mod roster;
pub mod routes;
pub mod sockets;
pub mod source;

pub use beside::Beside;
pub use connected::Connected;
pub use enrol::Enroller;
pub use netns::Netns;
pub use pod::{Application, Pod};
pub use source::{DirectorySource, KubeSource, PodSource, PodSpec, Sandbox};
