//! Every default, and every limit, in one table.

use std::{
    net::{IpAddr, Ipv4Addr},
    num::NonZeroUsize,
};
use weft_ebpf_abi::LISTENER_SLOTS;
use weft_io::telemetry::{Format, Select};

/// Istio's name for a cluster that was given none.
pub const CLUSTER: &str = "Kubernetes";
/// The namespace of Weft's own pods.
pub const NAMESPACE: &str = "weft-system";
/// Istio's and SPIFFE's usual trust domain.
pub const TRUST_DOMAIN: &str = "cluster.local";
/// Below it, one directory for each node's runtime files.
pub const STATE_DIR: &str = "/run/weft";
/// Below it, one directory for each node's cached state.
pub const CACHE_DIR: &str = "/var/lib/weft";
/// Below it, one directory for each node's pins.
pub const PIN_DIR: &str = "/sys/fs/bpf/weft";
/// This process's own view of processes.
pub const PROC: &str = "/proc";
/// The host's, as containers have it mounted.
pub const HOST_PROC: &str = "/host/proc";
/// The host's cgroups, as containers have them mounted.
pub const HOST_CGROUP: &str = "/host/sys/fs/cgroup";
/// Control's Service in a cluster.
pub const KUBE_CONTROL: &str = "https://weft-control.weft-system.svc:15012";
/// The root certificate, as containers have it mounted.
pub const KUBE_ROOT: &str = "/var/run/weft/root/root-cert.pem";
/// The service account's token for control, as containers have it mounted.
pub const KUBE_TOKEN: &str = "/var/run/secrets/weft/token";
/// The list of pods, inside the state directory.
pub const PODS: &str = "pods.yaml";
/// The socket of the command line, inside the state directory.
pub const ADMIN_SOCKET: &str = "admin.sock";
/// The port for admin, on localhost; ztunnel's and Istio's number.
pub const ADMIN_PORT: u16 = 15000;
/// The port for metrics, on every address; ztunnel's and Istio's number.
pub const METRICS_PORT: u16 = 15020;
/// The port for readiness, on every address; ztunnel's and Istio's number.
pub const READINESS_PORT: u16 = 15021;
/// Where admin listens.
pub const ADMIN_IP: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// Connections that one agent carries at most.
pub const MAX_CONNECTIONS: usize = 65_536;
/// Seconds that open connections have when the agent leaves; Kubernetes' own grace period is 30.
pub const DRAIN_SECONDS: u64 = 25;
/// The longest that open connections may have; beyond years, no deadline can be told at all.
pub const LONGEST_DRAIN_SECONDS: u64 = 24 * 3600;
/// The most lanes: each has a listener of its own in every pod, and the kernel's map has room for so many of them.
pub const MOST_LANES: NonZeroUsize = NonZeroUsize::new(LISTENER_SLOTS as usize).expect("a pod has listeners");
/// Which connections the access log tells of.
pub const ACCESS_LOG: Select = Select::All;
/// How its lines look.
pub const ACCESS_LOG_FORMAT: Format = Format::Text;
/// The log filter.
pub const LOG: &str = "info";
