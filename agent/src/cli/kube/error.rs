//! Why a cluster's agents cannot be asked.

use kube::core::Status;

/// Why a cluster, or agents of it, cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum KubeError {
    /// No kubeconfig that can be used.
    #[error("no cluster to ask: {0}; set KUBECONFIG, or give --kubeconfig FILE and --context NAME")]
    Config(String),
    /// The API server does not do it.
    #[error("{what}: {why}")]
    Api {
        /// What was asked of it.
        what: &'static str,
        /// Why not, and what to do.
        why: String,
    },
    /// Weft is not there.
    #[error(
        "no pod of an agent in the namespace {0}: is Weft installed? `helm install weft -n weft-system --create-namespace`, \
         or name another namespace with --kube-namespace"
    )]
    NoAgents(String),
    /// Not on that node.
    #[error("no agent on the node {0}; `kubectl get pods -n weft-system -o wide` shows where they are")]
    NoAgentOn(String),
    /// A client that is none.
    #[error("{0}: no such pod on a node; give the client's pod as NAMESPACE/NAME")]
    NotAPod(String),
    /// Something that is done on one node.
    #[error("{0} is for one agent: choose it with --node NAME")]
    OneNode(&'static str),
    /// Something that has nothing to do with a cluster.
    #[error("`{0}` asks no agent: leave --kube out")]
    Local(&'static str),
    /// The cluster, or Weft in it, is not as it should be.
    #[error("{0} of what was looked at is bad: see the rows above")]
    Bad(usize),
    /// Some agents did not answer; what the others said is printed.
    #[error("{}", nodes(.0))]
    Nodes(Vec<(String, String)>),
}

impl KubeError {
    /// What the client says, with the mend where it is known.
    pub fn api(what: &'static str, error: &kube::Error) -> Self {
        Self::Api { what, why: why(error) }
    }
}

/// An error of the client in words.
pub fn why(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => said(status),
        // Who has an error of HTTP or TLS finds its cause at the end.
        error => weft_io::told::whole(error),
    }
}

fn said(status: &Status) -> String {
    let mend = match status.code {
        401 => "; log in again, or use another context",
        403 => "; ask the cluster's administrator for this permission",
        _ => "",
    };
    format!("{}{mend}", status.message)
}

fn nodes(failed: &[(String, String)]) -> String {
    let all: Vec<_> = failed.iter().map(|(node, why)| format!("{node}: {why}")).collect();
    all.join("\nweft-agent: ")
}
