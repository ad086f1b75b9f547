//! The messages and services compiled from `core/io/proto`.

#![allow(missing_docs, unused_qualifications, clippy::all)]

/// Envoy's delta discovery.
pub mod discovery {
    tonic::include_proto!("envoy.service.discovery.v3");
}

/// Istio's workloads and services.
pub mod workload {
    tonic::include_proto!("istio.workload");
}

/// Istio's L4 authorization policies.
pub mod security {
    tonic::include_proto!("istio.security");
}

/// Istio's certificate service.
pub mod auth {
    tonic::include_proto!("istio.v1.auth");
}

/// A node's pods.
pub mod node {
    tonic::include_proto!("weft.dev.node.v1");
}

/// The head of the state cache's file.
pub mod cache {
    tonic::include_proto!("weft.discovery.v1");
}
