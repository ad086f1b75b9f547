//! What is different on a node of Kubernetes.

use super::defaults;
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};
use serde::{Deserialize, Serialize};
use std::{
    env,
    net::IpAddr,
    path::{Path, PathBuf},
};

/// Where the agent learns of its node's pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pods {
    /// From a file, or a directory of files.
    Listed(PathBuf),
    /// From control, and from the node itself.
    Kube,
}

impl Pods {
    /// The word that stands for [`Pods::Kube`]; a file of that name is given as `./kube`.
    pub const KUBE: &'static str = "kube";

    pub(super) fn new(given: Option<PathBuf>, default: impl FnOnce() -> PathBuf) -> Self {
        match given {
            Some(word) if word == Path::new(Self::KUBE) => Pods::Kube,
            Some(path) => Pods::Listed(path),
            None => Pods::Listed(default()),
        }
    }

    /// As it is given.
    pub fn shown(&self) -> &Path {
        match self {
            Pods::Listed(path) => path,
            Pods::Kube => Path::new(Self::KUBE),
        }
    }
}

/// What a pod of which the agent does not know yet whether it takes part in the mesh is kept from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Guard {
    /// Connecting to what is in the mesh.
    #[default]
    Mesh,
    /// Connecting anywhere.
    All,
    /// Nothing.
    Off,
}

/// What Kubernetes tells a container of itself (the downward API), under the names that the chart gives it. Flags, their
/// variables and the file win over it.
#[derive(Clone, Debug, Default)]
pub(super) struct Downward {
    pub node: Option<String>,
    pub node_ip: Option<IpAddr>,
    pub namespace: Option<String>,
}

impl Downward {
    pub(super) fn of_environment() -> Self {
        let text = |name| env::var(name).ok().filter(|value| !value.is_empty());
        let ip = text("NODE_IP").or_else(|| text("HOST_IP"));
        Self {
            node: text("NODE_NAME"),
            node_ip: ip.and_then(|text| text.parse().ok()),
            namespace: text("POD_NAMESPACE"),
        }
    }
}

/// The host's processes: where they are mounted for this container, or its own where there is no container.
pub(super) fn proc() -> PathBuf {
    let of_host = Path::new(defaults::HOST_PROC);
    if of_host.join("self").exists() { of_host.into() } else { defaults::PROC.into() }
}

/// The node's cgroup v2, where that is mounted for this container: what it has at the usual place may be its own alone.
pub(super) fn cgroup() -> Option<PathBuf> {
    let mounted = Path::new(defaults::HOST_CGROUP);
    let places = [mounted.join("unified"), mounted.to_owned()];
    places
        .into_iter()
        .find(|path| statfs(path).is_ok_and(|found| found.filesystem_type() == CGROUP2_SUPER_MAGIC))
}
