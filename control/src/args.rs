//! What the command line may say.

use clap::{Args, ValueEnum};
use std::{net::SocketAddr, path::PathBuf};

/// A form of output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Table,
    /// One document.
    Json,
    /// One document.
    Yaml,
}

/// What `run` is told; each flag wins over the same key in the configuration file.
#[derive(Clone, Debug, Default, Args)]
pub struct RunArgs {
    /// The configuration file, YAML.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Read the Kubernetes API instead of a directory of manifests: as the pod's account in a cluster, as KUBECONFIG says
    /// elsewhere. Nodes are then known by their tokens of that API, and the authority lives in Secrets, unless --tokens, --ca or
    /// --state name directories.
    #[arg(long)]
    pub kube: bool,
    /// Control's own namespace in a cluster (`weft-system` unless told).
    #[arg(long, value_name = "NAME", env = "POD_NAMESPACE")]
    pub namespace: Option<String>,
    /// What this replica is called; no two may have the same name [default: host and process].
    #[arg(long, value_name = "NAME", env = "POD_NAME")]
    pub pod: Option<String>,
    /// The directory of manifests; it is read again when it changes.
    #[arg(long, value_name = "DIR")]
    pub manifests: Option<PathBuf>,
    /// The directory of what must outlive the process: the authority, the tokens.
    #[arg(long, value_name = "DIR")]
    pub state: Option<PathBuf>,
    /// The directory of nodes' tokens: a file for each, named after the node, that only its owner may read [default:
    /// STATE/tokens].
    #[arg(long, value_name = "DIR")]
    pub tokens: Option<PathBuf>,
    /// The directory of the certificate authority, with Istio's file names (`ca-cert.pem`, `ca-key.pem`,
    /// `root-cert.pem`, `cert-chain.pem`); one is made where it is empty [default: STATE/ca].
    #[arg(long, value_name = "DIR")]
    pub ca: Option<PathBuf>,
    /// Where nodes connect (`[::]:15012` unless told).
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<SocketAddr>,
    /// Where /metrics, /healthz/ready and /debug are (`[::]:15014` unless told).
    #[arg(long, value_name = "ADDRESS")]
    pub monitoring: Option<SocketAddr>,
    /// One more name that the certificate of the port carries.
    #[arg(long = "name", value_name = "NAME")]
    pub names: Vec<String>,
    /// Write the bound addresses to this file, as JSON, once they answer.
    #[arg(long, value_name = "FILE")]
    pub bound: Option<PathBuf>,
    /// Write the root certificates to this file, for the nodes.
    #[arg(long, value_name = "FILE")]
    pub root: Option<PathBuf>,
    /// The trust domain of every identity [default: cluster.local].
    #[arg(long, value_name = "NAME")]
    pub trust_domain: Option<String>,
    /// Policies in this namespace hold for the whole mesh [default: weft-system].
    #[arg(long, value_name = "NAME")]
    pub root_namespace: Option<String>,
    /// How long workloads' certificates live, like 30s or 24h [default: 24h].
    #[arg(long, value_name = "DURATION")]
    pub leaf_lifetime: Option<String>,
    /// How long the signing certificate lives that is made at the first start, and each one that renews it when half of
    /// its life is over [default: 730d].
    #[arg(long, value_name = "DURATION")]
    pub intermediate_lifetime: Option<String>,
    /// How long a new root is trusted before it signs, and the old one after that: no shorter than any workload's certificate
    /// lives [default: as --leaf-lifetime].
    #[arg(long, value_name = "DURATION")]
    pub rotation_overlap: Option<String>,
}
