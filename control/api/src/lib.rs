//! The Kubernetes and Istio objects that Weft reads.
//!
//! Core objects are `k8s-openapi`'s; what it does not have stands here. [`Object::parse`] turns a manifest into one of
//! them, and says of a bad one which object and which field it is.
#![forbid(unsafe_code)]

pub mod broken;
pub mod object;
pub mod parse;
pub mod security;

pub use broken::Broken;
pub use object::{Kind, Object, ObjectKey};
pub use parse::{ParseError, Parsed};
pub use security::{AuthorizationPolicy, PeerAuthentication};
