//! Objects from a Kubernetes API.
//!
//! Each kind is listed in pages and then watched by a task of its own (`watch`), which keeps of every object only a digest
//! and passes on what changed (`state`): a relist after a gap yields the difference. What the fold does not read is dropped
//! while it is deserialized (`trim`), the rest goes through the same parser as manifests from a directory. The first batch
//! leaves once every kind is there (`gather`).

mod connect;
mod gather;
mod kinds;
mod object;
mod state;
mod trim;
mod trouble;
mod types;
mod watch;

pub use connect::{ConnectError, connect};
pub use kinds::{KubeResource, resource_of};
pub use types::Served;

use super::{Batch, Source, SourceError};
use gather::Gather;
use kinds::Shape;
use std::sync::Arc;
use tokio::sync::mpsc;
use weft_api::Kind;

/// What kinds have to say waits in so many places; who finds none free reads no further from the API.
const BACKLOG: usize = 64;

/// The manifest that is left of an object of `kind` as it comes from the API, or why it is not JSON of an object.
pub fn manifest(kind: Kind, json: &[u8]) -> serde_json::Result<serde_json::Value> {
    fn of<S: Shape>(json: &[u8]) -> serde_json::Result<serde_json::Value> {
        serde_json::from_slice::<object::Raw<S>>(json).map(object::Raw::into_manifest)
    }
    match kind {
        Kind::Namespace => of::<kinds::Namespaces>(json),
        Kind::Node => of::<kinds::Nodes>(json),
        Kind::ServiceAccount => of::<kinds::ServiceAccounts>(json),
        Kind::Pod => of::<kinds::Pods>(json),
        Kind::Service => of::<kinds::Services>(json),
        Kind::EndpointSlice => of::<kinds::EndpointSlices>(json),
        Kind::AuthorizationPolicy => of::<kinds::AuthorizationPolicies>(json),
        Kind::PeerAuthentication => of::<kinds::PeerAuthentications>(json),
    }
}

/// Reads a Kubernetes API. It must be started inside a tokio runtime.
pub struct KubeSource {
    client: kube::Client,
    served: Arc<Served>,
}

impl KubeSource {
    /// The objects behind `client`; which versions they are read in is noted in `served`.
    pub fn new(client: kube::Client, served: Arc<Served>) -> Self {
        Self { client, served }
    }

    fn watch<S: Shape>(&self, told: &mpsc::Sender<watch::Told>) {
        tokio::spawn(watch::run::<S>(self.client.clone(), self.served.clone(), told.clone()));
    }
}

impl Source for KubeSource {
    fn start(self: Box<Self>) -> Result<mpsc::Receiver<Batch>, SourceError> {
        let (batches, receiver) = mpsc::channel(1);
        let (told, kinds) = mpsc::channel(BACKLOG);
        self.watch::<kinds::Namespaces>(&told);
        self.watch::<kinds::Nodes>(&told);
        self.watch::<kinds::ServiceAccounts>(&told);
        self.watch::<kinds::Pods>(&told);
        self.watch::<kinds::Services>(&told);
        self.watch::<kinds::EndpointSlices>(&told);
        self.watch::<kinds::AuthorizationPolicies>(&told);
        self.watch::<kinds::PeerAuthentications>(&told);
        tokio::spawn(Gather::new(&Kind::ALL).run(kinds, batches));
        Ok(receiver)
    }
}

#[cfg(test)]
mod tests;
