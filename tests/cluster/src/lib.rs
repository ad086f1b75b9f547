//! A real Kubernetes on one machine: etcd, API server, controller manager, scheduler, and nodes that are network,
//! mount, process and UTS namespaces with their own containerd, kubelet and kube-proxy.
//!
//! [`Cluster`] is all of it; [`ControlPlane`] is what answers on the API alone, for tests that need no node. What a
//! cluster makes on the machine carries its name, so that it can be removed by name, whoever made it:
//!
//! | what | where |
//! |---|---|
//! | small files: plan, keys, kubeconfig, logs | `/run/weft-clusters/<name>` |
//! | large ones: etcd, images, containers | `/var/lib/weft-clusters/<name>` |
//! | processes | the cgroup `weftk8s-<name>`, in every hierarchy |
//! | network namespaces | `weftk8s-<name>-<node>` |
//! | the link between the nodes | the bridge `wk<slot>` |
#![forbid(unsafe_code)]

pub mod balancer;
mod cgroups;
pub mod cluster;
pub mod control_plane;
mod daemon;
mod dns;
mod files;
pub mod image;
mod kubectl;
mod network;
pub mod node;
pub mod parts;
mod pki;
pub mod plan;
mod remove;

pub use cluster::{Cluster, Link, Options};
pub use control_plane::ControlPlane;
pub use image::Image;
pub use kubectl::Kubectl;
pub use node::Node;
pub use parts::Parts;
