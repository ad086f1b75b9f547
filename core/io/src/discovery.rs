//! Discovery: how configuration travels from the control plane to a node, and certificates with it.
//!
//! The wire is Envoy's delta xDS with Istio's resources, so that either end may be Istio's.

pub mod ca;
pub mod cache;
pub mod client;
pub mod convert;
pub mod endpoint;
pub mod proto;
pub mod skew;

pub use ca::DiscoveryCa;
pub use client::{ClientConfig, NodeIdentity, Sink, Status, StatusHandle, Synced};
pub use convert::{Kind, Refused};
pub use endpoint::{ControlEndpoint, EndpointError};
