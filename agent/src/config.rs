//! The agent's configuration: a YAML file, overridden by flags and the environment, turned once into a typed value.

mod args;
mod defaults;
mod kube;
mod settings;

pub use args::ConfigArgs;
pub use kube::{Guard, Pods};
pub use settings::Settings;

use crate::pods::older::Older;
use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    num::NonZeroUsize,
    path::PathBuf,
    time::Duration,
};
use weft_io::telemetry::{Format, Select};

/// Everything the agent must be told.
#[derive(Clone, Debug)]
pub struct Config {
    /// The node's name, as workloads carry it.
    pub node: String,
    /// The node's address, for the control plane's eyes only.
    pub node_ip: IpAddr,
    /// The Kubernetes namespace that the agent itself runs in.
    pub namespace: String,
    /// The cluster's name.
    pub cluster: String,
    /// The network that the node's pods belong to; empty is the default one.
    pub network: String,
    /// The trust domain of the identities here.
    pub trust_domain: String,
    /// The control plane.
    pub control: Control,
    /// Where the agent learns of this node's pods.
    pub pods: Pods,
    /// What pods of Kubernetes are kept from before they are known.
    pub guard: Guard,
    /// What becomes of connections that a pod had before it came into the mesh.
    pub older: Older,
    /// The kubelet's cgroup; found by itself when not given.
    pub pods_cgroup: Option<PathBuf>,
    /// The host's processes.
    pub proc: PathBuf,
    /// What holds sockets and runtime files: `/run/weft/<node>`.
    pub state_dir: PathBuf,
    /// What outlives a reboot, the last state of the mesh: `/var/lib/weft/<node>`.
    pub cache_dir: PathBuf,
    /// Where kernel programs and maps are pinned, in a bpffs.
    pub pin_dir: PathBuf,
    /// The cgroup v2 below which connections are captured; found by itself when not given.
    pub cgroup: Option<PathBuf>,
    /// The local socket of the command line.
    pub admin_socket: PathBuf,
    /// Admin, for people and tools on the node.
    pub admin: SocketAddr,
    /// Prometheus metrics.
    pub metrics: SocketAddr,
    /// Readiness.
    pub readiness: SocketAddr,
    /// How many lanes (threads that carry connections) there are.
    pub lanes: NonZeroUsize,
    /// Connections beyond this many are refused.
    pub max_connections: usize,
    /// How long open connections may take to finish when the agent leaves.
    pub drain: Duration,
    /// Once relieved by another agent, wait to be stopped instead of ending.
    pub stay: bool,
    /// The log filter (`info`, `weft_agent=debug`).
    pub log: String,
    /// One line for each connection that ends.
    pub access_log: AccessLogSettings,
    /// Explicit listeners in place of capture.
    pub explicit: Option<Explicit>,
}

/// What is written of connections, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessLogSettings {
    /// Which connections.
    pub mode: Select,
    /// How a line looks.
    pub format: Format,
    /// The file to append to; the standard output if none.
    pub file: Option<PathBuf>,
}

/// How the control plane is reached.
#[derive(Clone, Debug)]
pub struct Control {
    /// `https://host:port` of discovery and CA.
    pub address: String,
    /// The root that its certificate must chain to, in PEM.
    pub root: PathBuf,
    /// The name that its certificate must carry, where it is not the host of `address`.
    pub server_name: Option<String>,
    /// A file with the token that names this agent.
    pub token: PathBuf,
}

/// The mode without privileges: nothing is captured, applications are pointed at listeners.
#[derive(Clone, Debug)]
pub struct Explicit {
    /// The workloads that this agent stands for.
    pub workloads: Vec<ExplicitWorkload>,
    /// Who is reached elsewhere than at its own address, by that address.
    pub peers: BTreeMap<IpAddr, Peer>,
}

/// Where a workload is reached, in place of its own address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Where HBONE to it is accepted.
    pub hbone: Option<SocketAddr>,
    /// The host that its ports are on, for plain TCP.
    pub plain: Option<IpAddr>,
}

/// One workload of the mode without privileges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExplicitWorkload {
    /// The Kubernetes namespace.
    pub namespace: String,
    /// The pod's name.
    pub name: String,
    /// Where HBONE to it is accepted.
    pub hbone: SocketAddr,
    /// Where HTTP CONNECT from it is accepted.
    pub connect: SocketAddr,
    /// Where SOCKS5 from it is accepted.
    pub socks: SocketAddr,
    /// The host that its application's ports are on.
    pub deliver: IpAddr,
}

impl Config {
    /// The configuration as the command line shows it. It holds paths of secrets, and no secret.
    pub fn shown(&self) -> serde_json::Value {
        let explicit = self.explicit.as_ref().map(|e| {
            let all = e.workloads.iter().map(|w| format!("{}/{}", w.namespace, w.name));
            all.collect::<Vec<_>>()
        });
        serde_json::json!({
            "node": self.node,
            "nodeIp": self.node_ip,
            "namespace": self.namespace,
            "cluster": self.cluster,
            "network": self.network,
            "trustDomain": self.trust_domain,
            "control": {
                "address": self.control.address,
                "root": self.control.root,
                "serverName": self.control.server_name,
                "token": self.control.token,
            },
            "pods": self.pods.shown(),
            "guard": self.guard,
            "olderConnections": self.older,
            "podsCgroup": self.pods_cgroup,
            "proc": self.proc,
            "stateDir": self.state_dir,
            "cacheDir": self.cache_dir,
            "pinDir": self.pin_dir,
            "cgroup": self.cgroup,
            "adminSocket": self.admin_socket,
            "admin": self.admin,
            "metrics": self.metrics,
            "readiness": self.readiness,
            "lanes": self.lanes,
            "maxConnections": self.max_connections,
            "drainSeconds": self.drain.as_secs(),
            "stay": self.stay,
            "log": self.log,
            "accessLog": {
                "mode": self.access_log.mode,
                "format": self.access_log.format,
                "file": self.access_log.file,
            },
            "explicit": explicit,
        })
    }
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {path}: {source}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not what it should be.
    #[error("{path}: {source}", path = path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: serde_yaml_ng::Error,
    },
    /// Something has no default and was not given.
    #[error("`{key}` is not set: give it in the file, as --{flag}, or as {env} in the environment")]
    Missing {
        /// The key in the file.
        key: &'static str,
        /// The flag.
        flag: &'static str,
        /// The environment variable.
        env: &'static str,
    },
    /// A value is not possible.
    #[error("`{key}`: {why}")]
    Invalid {
        /// The key in the file.
        key: &'static str,
        /// What is wrong, and what would be right.
        why: String,
    },
}
