//! The pods of this node: where they come from, how they are entered, what the agent sets up inside.

pub mod enrol;
pub mod listeners;
pub mod netns;
pub mod routes;
pub mod source;

pub use enrol::Pod;
pub use netns::Netns;
pub use source::{PodSource, PodSpec};
