//! The configuration file, and the one conversion that makes a [`Config`] of it.

use super::{
    AccessLogSettings, Config, ConfigArgs, ConfigError, Control, Explicit, ExplicitWorkload, Guard, Peer,
    Pods, defaults,
    kube::{self, Downward},
};
use crate::pods::older::Older;
use serde::Deserialize;
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    num::NonZeroUsize,
    path::{Path, PathBuf},
    time::Duration,
};
use weft_io::telemetry::{Format, Select};
use weft_model::identity::is_trust_domain;

/// The file's contents. Everything may be left out that has a default or is given as a flag.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Settings {
    node: Option<String>,
    node_ip: Option<IpAddr>,
    namespace: Option<String>,
    cluster: Option<String>,
    network: Option<String>,
    trust_domain: Option<String>,
    control: ControlSettings,
    pods: Option<PathBuf>,
    guard: Option<Guard>,
    older_connections: Option<Older>,
    pods_cgroup: Option<PathBuf>,
    proc: Option<PathBuf>,
    state_dir: Option<PathBuf>,
    cache_dir: Option<PathBuf>,
    pin_dir: Option<PathBuf>,
    cgroup: Option<PathBuf>,
    admin_socket: Option<PathBuf>,
    admin: Option<SocketAddr>,
    metrics: Option<SocketAddr>,
    readiness: Option<SocketAddr>,
    lanes: Option<NonZeroUsize>,
    max_connections: Option<usize>,
    drain_seconds: Option<u64>,
    stay: Option<bool>,
    log: Option<String>,
    access_log: LogSettings,
    explicit: Option<ExplicitSettings>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
struct ControlSettings {
    address: Option<String>,
    root: Option<PathBuf>,
    server_name: Option<String>,
    token: Option<PathBuf>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
struct LogSettings {
    mode: Option<Select>,
    format: Option<Format>,
    file: Option<PathBuf>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct ExplicitSettings {
    workloads: Vec<WorkloadSettings>,
    #[serde(default)]
    peers: Vec<PeerSettings>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct WorkloadSettings {
    namespace: String,
    name: String,
    hbone: Option<SocketAddr>,
    connect: Option<SocketAddr>,
    socks: Option<SocketAddr>,
    deliver: Option<IpAddr>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct PeerSettings {
    address: IpAddr,
    hbone: Option<SocketAddr>,
    plain: Option<IpAddr>,
}

impl Config {
    /// The configuration that the flags and the file they name amount to.
    pub fn load(args: ConfigArgs) -> Result<Self, ConfigError> {
        let settings = match &args.config {
            Some(path) => Settings::read(path)?,
            None => Settings::default(),
        };
        Self::resolve(settings, args, Downward::of_environment())
    }

    fn resolve(file: Settings, args: ConfigArgs, downward: Downward) -> Result<Self, ConfigError> {
        let given = args.pods.or(file.pods);
        let in_kube = given.as_deref() == Some(Path::new(Pods::KUBE));
        let downward = if in_kube { downward } else { Downward::default() };
        let missing = |key, flag, env| ConfigError::Missing { key, flag, env };
        let node = args.node.or(file.node).or(downward.node).ok_or(missing("node", "node", "WEFT_NODE"))?;
        if node.is_empty() || node.contains('/') || node.starts_with('.') {
            return Err(ConfigError::Invalid {
                key: "node",
                why: format!("`{node}` cannot be a node's name, since directories are named after it"),
            });
        }
        let address = args.control.or(file.control.address);
        let path_of = |path: &str| in_kube.then(|| PathBuf::from(path));
        let control =
            Control {
                address: address
                    .or_else(|| in_kube.then(|| defaults::KUBE_CONTROL.into()))
                    .ok_or(missing("control.address", "control", "WEFT_CONTROL"))?,
                root: (args.control_root.or(file.control.root).or_else(|| path_of(defaults::KUBE_ROOT)))
                    .ok_or(missing("control.root", "control-root", "WEFT_CONTROL_ROOT"))?,
                server_name: args.control_name.or(file.control.server_name),
                token: (args.token.or(file.control.token).or_else(|| path_of(defaults::KUBE_TOKEN)))
                    .ok_or(missing("control.token", "token", "WEFT_TOKEN_FILE"))?,
            };
        let below = |dir: &str| Path::new(dir).join(&node);
        let state_dir = args.state_dir.or(file.state_dir).unwrap_or_else(|| below(defaults::STATE_DIR));
        let cores = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        let explicit = match (args.explicit, file.explicit) {
            (true, None) => {
                return Err(ConfigError::Invalid {
                    key: "explicit",
                    why: "--explicit needs `explicit.workloads` in the configuration file".into(),
                });
            }
            (true, Some(settings)) => Some(Explicit::from(settings)),
            (false, _) => None,
        };
        let max_connections =
            args.max_connections.or(file.max_connections).unwrap_or(defaults::MAX_CONNECTIONS);
        if max_connections == 0 {
            return Err(ConfigError::Invalid {
                key: "maxConnections",
                why: "0 would refuse every connection; leave it out for the default".into(),
            });
        }
        let drain = args.drain_seconds.or(file.drain_seconds).unwrap_or(defaults::DRAIN_SECONDS);
        let lanes = args.lanes.or(file.lanes).unwrap_or(cores.min(defaults::MOST_LANES));
        at_most("drainSeconds", drain, defaults::LONGEST_DRAIN_SECONDS)?;
        at_most("lanes", lanes, defaults::MOST_LANES)?;
        Ok(Self {
            node_ip: (args.node_ip.or(file.node_ip).or(downward.node_ip))
                .unwrap_or(Ipv4Addr::LOCALHOST.into()),
            namespace: (args.namespace.or(file.namespace).or(downward.namespace))
                .unwrap_or_else(|| defaults::NAMESPACE.into()),
            cluster: args.cluster.or(file.cluster).unwrap_or_else(|| defaults::CLUSTER.into()),
            network: args.network.or(file.network).unwrap_or_default(),
            trust_domain: trust_domain(args.trust_domain.or(file.trust_domain))?,
            control,
            pods: Pods::new(given, || state_dir.join(defaults::PODS)),
            guard: args.guard.or(file.guard).unwrap_or_default(),
            older: args.older_connections.or(file.older_connections).unwrap_or_default(),
            pods_cgroup: args.pods_cgroup.or(file.pods_cgroup),
            proc: (args.proc.or(file.proc))
                .unwrap_or_else(|| if in_kube { kube::proc() } else { defaults::PROC.into() }),
            cache_dir: (args.cache_dir.or(file.cache_dir)).unwrap_or_else(|| below(defaults::CACHE_DIR)),
            pin_dir: args.pin_dir.or(file.pin_dir).unwrap_or_else(|| below(defaults::PIN_DIR)),
            cgroup: args.cgroup.or(file.cgroup).or_else(|| if in_kube { kube::cgroup() } else { None }),
            admin_socket: (args.admin_socket.or(file.admin_socket))
                .unwrap_or_else(|| state_dir.join(defaults::ADMIN_SOCKET)),
            admin: (args.admin.or(file.admin))
                .unwrap_or_else(|| SocketAddr::new(defaults::ADMIN_IP, defaults::ADMIN_PORT)),
            metrics: args.metrics.or(file.metrics).unwrap_or_else(|| anywhere(defaults::METRICS_PORT)),
            readiness: args
                .readiness
                .or(file.readiness)
                .unwrap_or_else(|| anywhere(defaults::READINESS_PORT)),
            lanes,
            max_connections,
            drain: Duration::from_secs(drain),
            stay: args.stay || file.stay.unwrap_or(false),
            log: args.log.or(file.log).unwrap_or_else(|| defaults::LOG.into()),
            access_log: AccessLogSettings {
                mode: args.access_log.or(file.access_log.mode).unwrap_or(defaults::ACCESS_LOG),
                format: (args.access_log_format.or(file.access_log.format))
                    .unwrap_or(defaults::ACCESS_LOG_FORMAT),
                file: args.access_log_file.or(file.access_log.file),
            },
            explicit,
            state_dir,
            node,
        })
    }

    /// Where a successor finds the keeper of this node.
    pub fn keeper_socket(&self) -> PathBuf {
        self.state_dir.join("keeper.sock")
    }
}

impl Settings {
    fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        serde_yaml_ng::from_str(&text).map_err(|source| ConfigError::Parse { path: path.to_owned(), source })
    }
}

impl From<ExplicitSettings> for Explicit {
    fn from(settings: ExplicitSettings) -> Self {
        let host = IpAddr::from(Ipv4Addr::LOCALHOST);
        // Port 0 lets the kernel choose; the choice is written to a file.
        let anywhere = SocketAddr::new(host, 0);
        let workloads = settings.workloads.into_iter().map(|w| ExplicitWorkload {
            namespace: w.namespace,
            name: w.name,
            hbone: w.hbone.unwrap_or(anywhere),
            connect: w.connect.unwrap_or(anywhere),
            socks: w.socks.unwrap_or(anywhere),
            deliver: w.deliver.unwrap_or(host),
        });
        let peers = settings.peers.into_iter().map(|p| (p.address, Peer { hbone: p.hbone, plain: p.plain }));
        Self { workloads: workloads.collect(), peers: peers.collect() }
    }
}

/// The trust domain that is given, or else the default one.
fn trust_domain(given: Option<String>) -> Result<String, ConfigError> {
    let name = given.unwrap_or_else(|| defaults::TRUST_DOMAIN.into());
    if is_trust_domain(&name) {
        return Ok(name);
    }
    Err(ConfigError::Invalid {
        key: "trustDomain",
        why: format!(
            "`{name:.256}` cannot stand in a SPIFFE ID; use up to 255 lower-case letters, digits, `.`, `-` and `_`, as in {}",
            defaults::TRUST_DOMAIN
        ),
    })
}

fn at_most<T: PartialOrd + std::fmt::Display>(
    key: &'static str,
    value: T,
    most: T,
) -> Result<(), ConfigError> {
    if value > most {
        return Err(ConfigError::Invalid { key, why: format!("{value} is too much; {most} is the most") });
    }
    Ok(())
}

/// Every address of the node, IPv4 and IPv6.
fn anywhere(port: u16) -> SocketAddr {
    SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINIMAL: &str = "node: n1\ncontrol: {address: 'https://c:15012', root: /r.pem, token: /t}\n";

    fn load(yaml: &str, args: ConfigArgs) -> Result<Config, ConfigError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.yaml");
        std::fs::write(&path, yaml).unwrap();
        Config::load(ConfigArgs { config: Some(path), ..args })
    }

    #[test]
    fn defaults_follow_the_node() {
        let c = load(MINIMAL, ConfigArgs::default()).unwrap();
        assert_eq!(c.state_dir, Path::new("/run/weft/n1"));
        assert_eq!(c.pods, Pods::Listed("/run/weft/n1/pods.yaml".into()));
        assert_eq!(c.cache_dir, Path::new("/var/lib/weft/n1"));
        assert_eq!(c.metrics.port(), 15020);
        assert!(c.admin.ip().is_loopback());
        assert_eq!(c.access_log, AccessLogSettings { mode: Select::All, format: Format::Text, file: None });
    }

    #[test]
    fn a_pod_of_kubernetes_needs_to_be_told_little() {
        let downward = Downward {
            node: Some("n3".into()),
            node_ip: Some("10.9.0.3".parse().unwrap()),
            namespace: Some("mesh".into()),
        };
        let load = |yaml: &str, pods: Option<&str>| {
            let args = ConfigArgs { pods: pods.map(Into::into), ..ConfigArgs::default() };
            Config::resolve(serde_yaml_ng::from_str(yaml).unwrap(), args, downward.clone())
        };
        for c in [load("{}", Some("kube")).unwrap(), load("pods: kube", None).unwrap()] {
            assert_eq!((c.pods, c.guard), (Pods::Kube, Guard::Mesh));
            assert_eq!((c.node.as_str(), c.namespace.as_str()), ("n3", "mesh"));
            assert_eq!(c.control.token, Path::new("/var/run/secrets/weft/token"));
            assert_eq!(c.control.root, Path::new("/var/run/weft/root/root-cert.pem"));
            assert!(c.control.address.ends_with(":15012"));
        }
        assert_eq!(load("{node: n1, guard: all}", Some("kube")).unwrap().node, "n1", "what is said wins");
        assert!(load("{}", None).unwrap_err().to_string().contains("node"), "elsewhere nothing is guessed");
        assert_eq!(load(MINIMAL, Some("./kube")).unwrap().pods, Pods::Listed("./kube".into()));
    }

    #[test]
    fn flags_win_over_the_file() {
        let args = ConfigArgs { node: Some("n2".into()), drain_seconds: Some(1), ..ConfigArgs::default() };
        let c = load(MINIMAL, args).unwrap();
        assert_eq!((c.node.as_str(), c.drain), ("n2", Duration::from_secs(1)));
        assert_eq!(c.state_dir, Path::new("/run/weft/n2"));
    }

    #[test]
    fn the_access_log_is_set_in_the_file_and_by_flags() {
        let yaml = format!("{MINIMAL}accessLog: {{mode: denied, format: json, file: /var/log/weft.log}}\n");
        let c = load(&yaml, ConfigArgs { access_log: Some(Select::Off), ..ConfigArgs::default() }).unwrap();
        let file = Some("/var/log/weft.log".into());
        assert_eq!(c.access_log, AccessLogSettings { mode: Select::Off, format: Format::Json, file });
    }

    #[test]
    fn errors_name_what_to_mend() {
        let error = |yaml: &str| load(yaml, ConfigArgs::default()).unwrap_err().to_string();
        assert!(error("node: n1\nnodes: 2\n").contains("nodes"));
        assert!(error("node: n1\n").contains("control.address"));
        assert!(error(&MINIMAL.replace("n1", "../n1")).contains("node"));
        assert!(error(&format!("{MINIMAL}maxConnections: 0\n")).contains("maxConnections"));
        assert!(error(&format!("{MINIMAL}lanes: 0\n")).contains("lanes"));
        assert!(error(&format!("{MINIMAL}trustDomain: a/b\n")).contains("`a/b` cannot stand in a SPIFFE ID"));
        assert!(error(&format!("{MINIMAL}lanes: {}\n", u32::MAX)).contains("lanes"));
        assert!(error(&format!("{MINIMAL}drainSeconds: {}\n", u64::MAX)).contains("drainSeconds"));
        assert!(error(&format!("{MINIMAL}accessLog: {{mode: some}}\n")).contains("unknown variant `some`"));
        assert!(error(&format!("{MINIMAL}accessLog: {{colour: red}}\n")).contains("accessLog"));
        let explicit = ConfigArgs { explicit: true, ..ConfigArgs::default() };
        assert!(load(MINIMAL, explicit).unwrap_err().to_string().contains("explicit"));
    }
}
