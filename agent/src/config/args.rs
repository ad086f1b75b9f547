//! The flags of `weft-agent run`, each also an environment variable. What is given here wins over the file.

use super::Guard;
use crate::pods::older::Older;
use clap::Args;
use std::{
    net::{IpAddr, SocketAddr},
    num::NonZeroUsize,
    path::PathBuf,
};
use weft_io::telemetry::{Format, Select};

/// Flags that configure the agent.
#[derive(Args, Clone, Debug, Default)]
pub struct ConfigArgs {
    /// A YAML file with the configuration.
    #[arg(long, env = "WEFT_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The node's name.
    #[arg(long, env = "WEFT_NODE", value_name = "NAME")]
    pub node: Option<String>,
    /// The node's address.
    #[arg(long, env = "WEFT_NODE_IP", value_name = "IP")]
    pub node_ip: Option<IpAddr>,
    /// The Kubernetes namespace that the agent itself runs in.
    #[arg(long, env = "WEFT_NAMESPACE", value_name = "NAME")]
    pub namespace: Option<String>,
    /// The cluster's name.
    #[arg(long, env = "WEFT_CLUSTER", value_name = "NAME")]
    pub cluster: Option<String>,
    /// The network that the node's pods belong to.
    #[arg(long, env = "WEFT_NETWORK", value_name = "NAME")]
    pub network: Option<String>,
    /// The trust domain.
    #[arg(long, env = "WEFT_TRUST_DOMAIN", value_name = "NAME")]
    pub trust_domain: Option<String>,
    /// The control plane, https://HOST:PORT.
    #[arg(long, env = "WEFT_CONTROL", value_name = "URL")]
    pub control: Option<String>,
    /// The root certificate of the control plane, in PEM.
    #[arg(long, env = "WEFT_CONTROL_ROOT", value_name = "FILE")]
    pub control_root: Option<PathBuf>,
    /// The name in the control plane's certificate, where it is not the host of --control.
    #[arg(long, env = "WEFT_CONTROL_NAME", value_name = "NAME")]
    pub control_name: Option<String>,
    /// The file with the token for the control plane.
    #[arg(long, env = "WEFT_TOKEN_FILE", value_name = "FILE")]
    pub token: Option<PathBuf>,
    /// A file, or a directory of files, that lists the pods of this node; or `kube`: control says which they are, and the node's
    /// cgroups and processes where.
    #[arg(long, env = "WEFT_PODS", value_name = "PATH|kube")]
    pub pods: Option<PathBuf>,
    /// What a pod of Kubernetes is kept from before it is known whether it is in the mesh: connecting into the mesh, to all, or
    /// off.
    #[arg(long, env = "WEFT_GUARD", value_name = "WHAT")]
    pub guard: Option<Guard>,
    /// What becomes of connections that a pod had before it came into the mesh: keep or reset.
    #[arg(long, env = "WEFT_OLDER_CONNECTIONS", value_name = "WHAT")]
    pub older_connections: Option<Older>,
    /// The kubelet's cgroup; found below --cgroup where it is not given.
    #[arg(long, env = "WEFT_PODS_CGROUP", value_name = "DIR")]
    pub pods_cgroup: Option<PathBuf>,
    /// Where the host's /proc is mounted; with `--pods kube` /host/proc if that is there.
    #[arg(long, env = "WEFT_PROC", value_name = "DIR")]
    pub proc: Option<PathBuf>,
    /// The directory for sockets and runtime files.
    #[arg(long, env = "WEFT_STATE_DIR", value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// The directory in which the last state of the mesh is kept.
    #[arg(long, env = "WEFT_CACHE_DIR", value_name = "DIR")]
    pub cache_dir: Option<PathBuf>,
    /// The directory, in a bpffs, for kernel programs and maps.
    #[arg(long, env = "WEFT_PIN_DIR", value_name = "DIR")]
    pub pin_dir: Option<PathBuf>,
    /// The cgroup v2 below which connections are captured.
    #[arg(long, env = "WEFT_CGROUP", value_name = "DIR")]
    pub cgroup: Option<PathBuf>,
    /// The socket for the command line.
    #[arg(long, env = "WEFT_ADMIN_SOCKET", value_name = "FILE")]
    pub admin_socket: Option<PathBuf>,
    /// Where admin listens.
    #[arg(long, env = "WEFT_ADMIN", value_name = "IP:PORT")]
    pub admin: Option<SocketAddr>,
    /// Where metrics are served.
    #[arg(long, env = "WEFT_METRICS", value_name = "IP:PORT")]
    pub metrics: Option<SocketAddr>,
    /// Where readiness is served.
    #[arg(long, env = "WEFT_READINESS", value_name = "IP:PORT")]
    pub readiness: Option<SocketAddr>,
    /// How many threads carry connections, 64 at most; one for each core unless told otherwise.
    #[arg(long, env = "WEFT_LANES", value_name = "N")]
    pub lanes: Option<NonZeroUsize>,
    /// Connections beyond this many are refused.
    #[arg(long, env = "WEFT_MAX_CONNECTIONS", value_name = "N")]
    pub max_connections: Option<usize>,
    /// Seconds that open connections have when the agent leaves.
    #[arg(long, env = "WEFT_DRAIN_SECONDS", value_name = "N")]
    pub drain_seconds: Option<u64>,
    /// Once another agent has taken over, wait to be stopped, for where whoever ends is started again (Kubernetes).
    #[arg(long, env = "WEFT_STAY")]
    pub stay: bool,
    /// The log filter.
    #[arg(long, env = "WEFT_LOG", value_name = "FILTER")]
    pub log: Option<String>,
    /// Which connections the access log tells of when they end: all, failed, denied or off.
    #[arg(long, env = "WEFT_ACCESS_LOG", value_name = "MODE")]
    pub access_log: Option<Select>,
    /// How a line of the access log looks: text or json.
    #[arg(long, env = "WEFT_ACCESS_LOG_FORMAT", value_name = "FORMAT")]
    pub access_log_format: Option<Format>,
    /// The file that the access log is appended to, in place of the standard output.
    #[arg(long, env = "WEFT_ACCESS_LOG_FILE", value_name = "FILE")]
    pub access_log_file: Option<PathBuf>,
    /// Without privileges: listeners to which applications are pointed, in place of capture.
    #[arg(long)]
    pub explicit: bool,
}
