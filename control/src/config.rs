//! The process's configuration: a file, flags over it, one conversion into what the parts need.

mod duration;

use crate::{args::RunArgs, issue::Lifetimes};
use serde::Deserialize;
use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};
use weft_index::IndexConfig;
use weft_model::identity::is_trust_domain;

/// The file, as written. Everything has a default but where objects come from and, without Kubernetes, the state.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Settings {
    kube: bool,
    namespace: Option<String>,
    manifests: Option<PathBuf>,
    state: Option<PathBuf>,
    tokens: Option<PathBuf>,
    listen: Option<SocketAddr>,
    monitoring: Option<SocketAddr>,
    names: Vec<String>,
    bound: Option<PathBuf>,
    root: Option<PathBuf>,
    mesh: MeshSettings,
    ca: CaSettings,
}

/// What the mesh is called.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct MeshSettings {
    trust_domain: Option<String>,
    cluster: Option<String>,
    network: Option<String>,
    domain: Option<String>,
    root_namespace: Option<String>,
}

/// The certificate authority.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct CaSettings {
    dir: Option<PathBuf>,
    leaf_lifetime: Option<String>,
    leaf_lifetime_max: Option<String>,
    root_lifetime: Option<String>,
    intermediate_lifetime: Option<String>,
    rotation_overlap: Option<String>,
}

/// The configuration in use.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where objects come from.
    pub objects: Objects,
    /// How nodes prove who they are.
    pub callers: Callers,
    /// Where the certificate authority is kept.
    pub ca: CaPlace,
    /// Control's own namespace in a cluster.
    pub namespace: String,
    /// What this replica is called.
    pub replica: String,
    /// How long certificates live.
    pub lifetimes: Lifetimes,
    /// Where nodes connect.
    pub listen: SocketAddr,
    /// Where metrics and readiness are.
    pub monitoring: SocketAddr,
    /// The names that the port's certificate carries.
    pub names: Vec<String>,
    /// A file that is told the bound addresses, as JSON.
    pub bound: Option<PathBuf>,
    /// A file that is told the root certificates, for the nodes.
    pub root: Option<PathBuf>,
    /// What the mesh is called.
    pub index: IndexConfig,
}

/// Where objects come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Objects {
    /// A directory of manifests.
    Directory(PathBuf),
    /// The Kubernetes API.
    Kube,
}

/// How nodes prove who they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Callers {
    /// By tokens in a directory.
    Tokens(PathBuf),
    /// By tokens that the Kubernetes API reviews.
    Review,
}

/// Where the certificate authority is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CaPlace {
    /// In a directory.
    Directory(PathBuf),
    /// In a Secret of control's own namespace.
    Secret,
}

/// Every default that is not the index's own.
mod defaults {
    use std::net::{IpAddr, Ipv6Addr, SocketAddr};

    /// Istiod's discovery port.
    pub(super) const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 15012);
    /// Istiod's monitoring port.
    pub(super) const MONITORING: SocketAddr = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 15014);
    /// Besides these, the address that is listened on. Others' proxies know the control plane by Istio's name.
    pub(super) const NAMES: [&str; 6] = [
        "localhost",
        "127.0.0.1",
        "::1",
        "weft-control",
        "weft-control.weft-system.svc",
        "istiod.istio-system.svc",
    ];
    pub(super) const NAMESPACE: &str = "weft-system";
    pub(super) const LEAF: &str = "24h";
    pub(super) const LEAF_MAX: &str = "90d";
    pub(super) const ROOT: &str = "3650d";
    pub(super) const INTERMEDIATE: &str = "730d";
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{path}: {cause}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// The file is not what it should be.
    #[error("{path}: {cause}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        cause: serde_yaml_ng::Error,
    },
    /// Something without a default is not given.
    #[error("{field} is not given; say --{flag} or write `{field}:` in the configuration file")]
    Missing {
        /// The key in the file.
        field: &'static str,
        /// The flag.
        flag: &'static str,
    },
    /// Two sources.
    #[error(
        "both a directory of manifests and the Kubernetes API are given; leave out one of --manifests and --kube"
    )]
    TwoSources,
    /// A trust domain that no SPIFFE ID can carry.
    #[error(
        "mesh.trustDomain: `{0:.256}` cannot stand in a SPIFFE ID; use up to 255 lower-case letters, digits, `.`, `-` and \
         `_`, as in cluster.local"
    )]
    TrustDomain(String),
    /// A duration that is none.
    #[error("{field}: `{value}` is not a duration like 30s, 15m, 24h or 365d")]
    Duration {
        /// The key in the file.
        field: &'static str,
        /// What stands there.
        value: String,
    },
}

impl Config {
    /// The configuration that the file and the flags give; flags win.
    pub fn load(args: &RunArgs) -> Result<Self, ConfigError> {
        let settings = match &args.config {
            Some(path) => read(path)?,
            None => Settings::default(),
        };
        Self::new(settings, args)
    }

    fn new(file: Settings, args: &RunArgs) -> Result<Self, ConfigError> {
        let missing = |field, flag| ConfigError::Missing { field, flag };
        let kube = args.kube || file.kube;
        let manifests = args.manifests.clone().or(file.manifests);
        let objects = match (manifests, kube) {
            (Some(_), true) => return Err(ConfigError::TwoSources),
            (Some(dir), false) => Objects::Directory(dir),
            (None, true) => Objects::Kube,
            (None, false) => return Err(missing("manifests", "manifests")),
        };
        let state = args.state.clone().or(file.state);
        let within = |dir: &str| state.as_ref().map(|state| state.join(dir));
        let tokens = args.tokens.clone().or(file.tokens);
        let ca = args.ca.clone().or(file.ca.dir);
        // In a cluster both are the API's, unless a directory is named.
        let callers = match tokens.or_else(|| within("tokens")) {
            Some(dir) => Callers::Tokens(dir),
            None if kube => Callers::Review,
            None => return Err(missing("state", "state")),
        };
        let ca = match ca.or_else(|| within("ca")) {
            Some(dir) => CaPlace::Directory(dir),
            None if kube => CaPlace::Secret,
            None => return Err(missing("state", "state")),
        };
        let namespace = args.namespace.clone().or(file.namespace).unwrap_or(defaults::NAMESPACE.to_owned());
        let listen = args.listen.or(file.listen).unwrap_or(defaults::LISTEN);
        let mut names: Vec<String> = defaults::NAMES.map(str::to_owned).into();
        if !listen.ip().is_unspecified() {
            names.push(listen.ip().to_string());
        }
        names.extend(file.names.into_iter().chain(args.names.iter().cloned()));
        names.sort();
        names.dedup();
        let intermediate = args.intermediate_lifetime.clone().or(file.ca.intermediate_lifetime);
        let leaf = args.leaf_lifetime.clone().or(file.ca.leaf_lifetime);
        let overlap = args.rotation_overlap.clone().or(file.ca.rotation_overlap).or(leaf.clone());
        Ok(Self {
            objects,
            callers,
            ca,
            namespace,
            replica: args.pod.clone().unwrap_or_else(replica),
            lifetimes: Lifetimes {
                leaf: duration("ca.leafLifetime", leaf, defaults::LEAF)?,
                leaf_max: duration("ca.leafLifetimeMax", file.ca.leaf_lifetime_max, defaults::LEAF_MAX)?,
                root: duration("ca.rootLifetime", file.ca.root_lifetime, defaults::ROOT)?,
                intermediate: duration("ca.intermediateLifetime", intermediate, defaults::INTERMEDIATE)?,
                overlap: duration("ca.rotationOverlap", overlap, defaults::LEAF)?,
            },
            listen,
            monitoring: args.monitoring.or(file.monitoring).unwrap_or(defaults::MONITORING),
            names,
            bound: args.bound.clone().or(file.bound),
            root: args.root.clone().or(file.root),
            index: index(file.mesh, args)?,
        })
    }
}

/// A name that no other process has.
fn replica() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{}-{}", host.trim(), std::process::id())
}

fn index(mesh: MeshSettings, args: &RunArgs) -> Result<IndexConfig, ConfigError> {
    let default = IndexConfig::default();
    let trust_domain = args.trust_domain.clone().or(mesh.trust_domain).unwrap_or(default.trust_domain);
    if !is_trust_domain(&trust_domain) {
        return Err(ConfigError::TrustDomain(trust_domain));
    }
    Ok(IndexConfig {
        trust_domain,
        cluster: mesh.cluster.unwrap_or(default.cluster),
        network: mesh.network.unwrap_or(default.network),
        domain: mesh.domain.unwrap_or(default.domain),
        root_namespace: args.root_namespace.clone().or(mesh.root_namespace).unwrap_or(default.root_namespace),
    })
}

fn read(path: &Path) -> Result<Settings, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|cause| ConfigError::Unreadable { path: path.to_owned(), cause })?;
    serde_yaml_ng::from_str(&text).map_err(|cause| ConfigError::Malformed { path: path.to_owned(), cause })
}

fn duration(field: &'static str, value: Option<String>, default: &str) -> Result<Duration, ConfigError> {
    let value = value.unwrap_or_else(|| default.to_owned());
    duration::parse(&value).ok_or(ConfigError::Duration { field, value })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str, args: RunArgs) -> Result<Config, String> {
        let settings: Settings = serde_yaml_ng::from_str(text).map_err(|e| e.to_string())?;
        Config::new(settings, &args).map_err(|e| e.to_string())
    }

    #[test]
    fn flags_win_over_the_file_and_defaults_fill_the_rest() {
        let args = RunArgs { listen: Some("127.0.0.1:0".parse().unwrap()), ..RunArgs::default() };
        let text =
            "manifests: m\nstate: s\nlisten: 10.0.0.1:1\nmesh: {trustDomain: td}\nca: {leafLifetime: 5s}\n";
        let config = config(text, args).unwrap();
        assert_eq!(config.listen, "127.0.0.1:0".parse().unwrap());
        assert_eq!(config.index.trust_domain, "td");
        assert_eq!(config.index.root_namespace, "weft-system");
        assert_eq!(config.lifetimes.leaf, Duration::from_secs(5));
        assert_eq!(config.ca, CaPlace::Directory("s/ca".into()));
        assert_eq!(config.objects, Objects::Directory("m".into()));
        assert!(config.names.contains(&"127.0.0.1".to_owned()));
    }

    #[test]
    fn in_a_cluster_everything_is_the_apis_unless_a_directory_is_named() {
        let in_cluster = config("kube: true\n", RunArgs::default()).unwrap();
        assert_eq!(in_cluster.objects, Objects::Kube);
        assert_eq!((in_cluster.callers, in_cluster.ca), (Callers::Review, CaPlace::Secret));
        assert_eq!(in_cluster.namespace, "weft-system");
        let args = RunArgs { kube: true, ca: Some("c".into()), ..RunArgs::default() };
        let mounted = config("", args).unwrap();
        assert_eq!((mounted.callers, mounted.ca), (Callers::Review, CaPlace::Directory("c".into())));
    }

    #[test]
    fn errors_name_what_is_wrong() {
        for (text, part) in [
            ("manifests: m\n", "state is not given"),
            ("state: s\n", "manifests is not given"),
            ("manifests: m\nstate: s\nkube: true\n", "leave out one of --manifests and --kube"),
            ("manifest: m\n", "unknown field `manifest`"),
            ("manifests: m\nstate: s\nmesh: {trustDomain: a b}\n", "mesh.trustDomain: `a b`"),
            ("manifests: m\nstate: s\nca: {leafLifetime: soon}\n", "ca.leafLifetime: `soon`"),
        ] {
            let error = config(text, RunArgs::default()).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }
}
