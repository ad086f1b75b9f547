//! Finding the Kubernetes API.

use kube::{
    Client, Config,
    config::{InClusterError, KubeConfigOptions, KubeconfigError},
};
use std::time::Duration;

/// An API server that does not answer by then is away.
const CONNECT: Duration = Duration::from_secs(5);

/// Why there is no client of the Kubernetes API.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The pod's account cannot be used.
    #[error(
        "the pod's service account cannot be used: {0}; see that automountServiceAccountToken is not false"
    )]
    InCluster(#[source] Box<InClusterError>),
    /// No kubeconfig.
    #[error("not in a pod, and no kubeconfig can be used: {0}; name one in KUBECONFIG")]
    Kubeconfig(#[source] Box<KubeconfigError>),
    /// The client cannot be made.
    #[error("the client of the Kubernetes API: {0}")]
    Client(#[source] Box<kube::Error>),
}

/// A client: as the pod's account inside a cluster, otherwise as KUBECONFIG says. It does not ask the API for anything yet.
pub async fn connect() -> Result<Client, ConnectError> {
    let mut config = if std::env::var_os("KUBERNETES_SERVICE_HOST").is_some() {
        Config::incluster().map_err(|e| ConnectError::InCluster(Box::new(e)))?
    } else {
        let options = KubeConfigOptions::default();
        Config::from_kubeconfig(&options).await.map_err(|e| ConnectError::Kubeconfig(Box::new(e)))?
    };
    config.connect_timeout = Some(CONNECT);
    Client::try_from(config).map_err(|e| ConnectError::Client(Box::new(e)))
}
