//! What control uses of the cluster that it runs in.

use crate::{
    config::{CaPlace, Config},
    issue::Keeper,
    source::kube::{ConnectError, connect},
};
use kube::Client;

/// The Kubernetes API, found when it is first needed: without Kubernetes it never is.
#[derive(Default)]
pub(super) struct Api(Option<Client>);

impl Api {
    /// A client.
    pub(super) async fn client(&mut self) -> Result<Client, ConnectError> {
        let client = match self.0.take() {
            Some(client) => client,
            None => connect().await?,
        };
        Ok(self.0.insert(client).clone())
    }

    /// The keeper of the authority's Secret.
    pub(super) async fn keeper(&mut self, config: &Config) -> Result<Keeper, ConnectError> {
        let client = self.client().await?;
        Ok(Keeper::new(client, &config.namespace, config.lifetimes, &config.index.trust_domain))
    }
}

/// Begins to replace the root of the authority in the Secret.
pub async fn rotate_root(config: &Config) -> anyhow::Result<()> {
    if let CaPlace::Directory(dir) = &config.ca {
        anyhow::bail!(
            "the authority in {} cannot be rotated by this command, only one in a cluster's Secret; put the new root beside the \
             old one into root-cert.pem there, and restart control",
            dir.display()
        );
    }
    Ok(Api::default().keeper(config).await?.rotate().await?)
}
