//! The authority in a Secret: found or made at the start, followed by every replica, written by the one that leads.

use super::{
    authority::{Authority, AuthorityError, Lifetimes, ROOT_CERT, Signer},
    files::Files,
    generate, renew, rotate,
};
use k8s_openapi::{
    ByteString,
    api::core::v1::{ConfigMap, Secret},
};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};
use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};
use time::OffsetDateTime;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use weft_io::told::whole;

/// Control's own Secret.
pub const OWN: &str = "weft-ca";
/// The Secret in which a user brings an authority: Istio's name.
pub const USERS: &str = "cacerts";
/// The ConfigMap in which everybody finds the roots.
pub const ROOTS: &str = "weft-ca-root";

/// How often it is looked for changes.
const LOOK: Duration = Duration::from_secs(5);
/// How soon it is tried again at the start.
const RETRY: Duration = Duration::from_secs(2);

/// Why the authority cannot be read from the API or written there.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    /// The API refuses or is away.
    #[error("{object}: {cause}{mend}", cause = whole(cause), mend = mend(object, cause))]
    Api {
        /// Kind, namespace and name.
        object: String,
        /// Why.
        #[source]
        cause: Box<kube::Error>,
    },
    /// What is kept is no authority.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// There is none.
    #[error(
        "there is no Secret {0}; what it held is still in use here, put it back or restart control to get a new authority"
    )]
    Gone(String),
}

fn mend(object: &str, cause: &kube::Error) -> String {
    let forbidden = matches!(cause, kube::Error::Api(status) if status.code == 403);
    let resource = if object.starts_with("Secret") { "secrets" } else { "configmaps" };
    if forbidden {
        format!(
            "; give a Role of control's service account the rule {{apiGroups: [\"\"], resources: [\"{resource}\"], verbs: [\"get\", \
             \"create\", \"update\"]}}"
        )
    } else {
        String::new()
    }
}

/// Keeps the authority of a Secret.
pub struct Keeper {
    secrets: Api<Secret>,
    maps: Api<ConfigMap>,
    namespace: String,
    lifetimes: Lifetimes,
    trust_domain: String,
}

/// A Secret as it was found.
struct Found {
    name: &'static str,
    files: Files,
    version: Option<String>,
}

impl Keeper {
    /// A keeper of what is in `namespace`.
    pub fn new(client: Client, namespace: &str, lifetimes: Lifetimes, trust_domain: &str) -> Self {
        Self {
            secrets: Api::namespaced(client.clone(), namespace),
            maps: Api::namespaced(client, namespace),
            namespace: namespace.to_owned(),
            lifetimes,
            trust_domain: trust_domain.to_owned(),
        }
    }

    /// The authority: the user's where there is one, else control's own, which is made where it is missing. It is asked for
    /// until there is an answer.
    pub async fn open(&self) -> (Arc<Authority>, &'static str) {
        let mut complaint = String::new();
        loop {
            match self.find_or_make().await {
                Ok(found) => match Authority::of(&found.files, self.lifetimes, &self.trust_domain) {
                    Ok(authority) => return (Arc::new(authority), found.name),
                    Err(error) => complain(&mut complaint, &error.into()),
                },
                Err(error) => complain(&mut complaint, &error),
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    async fn find_or_make(&self) -> Result<Found, KeepError> {
        for name in [USERS, OWN] {
            if let Some(found) = self.find(name).await? {
                return Ok(found);
            }
        }
        let origin = format!("Secret {}/{OWN}", self.namespace);
        let files = generate::make(Path::new(&origin), self.lifetimes, &self.trust_domain)?;
        let secret = secret(OWN, &files, None);
        // Of several replicas that make one at the same time the API takes the first, and the others find that.
        match self.secrets.create(&PostParams::default(), &secret).await {
            Ok(_) => tracing::info!(secret = OWN, "made a root and a signing certificate"),
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(cause) => return Err(self.failed("Secret", OWN, cause)),
        }
        self.find(OWN).await?.ok_or_else(|| KeepError::Gone(format!("{}/{OWN}", self.namespace)))
    }

    async fn find(&self, name: &'static str) -> Result<Option<Found>, KeepError> {
        let found = self.secrets.get_opt(name).await.map_err(|e| self.failed("Secret", name, e))?;
        let Some(secret) = found else { return Ok(None) };
        let data: BTreeMap<String, Vec<u8>> = secret
            .data
            .unwrap_or_default()
            .into_iter()
            .map(|(key, ByteString(bytes))| (key, bytes))
            .collect();
        let files = Files::of_secret(&format!("{}/{name}", self.namespace), data)?;
        Ok(Some(Found { name, files, version: secret.metadata.resource_version }))
    }

    fn failed(&self, kind: &str, name: &str, cause: kube::Error) -> KeepError {
        KeepError::Api { object: format!("{kind} {}/{name}", self.namespace), cause: Box::new(cause) }
    }

    /// Follows the Secret `name`; while `lead` says so, writes what is due: the roots for everybody, a renewed signing
    /// certificate, the next step of a rotation.
    pub async fn keep(
        self,
        name: &'static str,
        authority: Arc<Authority>,
        mut lead: watch::Receiver<bool>,
        shutdown: CancellationToken,
    ) {
        let (mut last, mut complaint) = (None, String::new());
        loop {
            let leads = *lead.borrow_and_update();
            match self.look(name, &authority, &mut last, leads).await {
                Ok(()) => complaint.clear(),
                Err(error) => complain(&mut complaint, &error),
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                // It is seen below that nobody leads any more.
                _ = lead.changed() => {}
                () = shutdown.cancelled() => return,
            }
        }
    }

    async fn look(
        &self,
        name: &'static str,
        authority: &Authority,
        last: &mut Option<Files>,
        leads: bool,
    ) -> Result<(), KeepError> {
        let gone = || KeepError::Gone(format!("{}/{name}", self.namespace));
        let mut found = self.find(name).await?.ok_or_else(gone)?;
        if leads
            && name == OWN
            && let Some(next) = self.due(&found.files)?
        {
            // The version goes along: what somebody else wrote meanwhile is not overwritten.
            let secret = secret(name, &next, found.version.clone());
            let written = self.secrets.replace(name, &PostParams::default(), &secret).await;
            written.map_err(|e| self.failed("Secret", name, e))?;
            found.files = next;
        }
        if last.as_ref() != Some(&found.files) {
            authority.follow(&found.files)?;
            if last.is_some() {
                let until = authority.not_after();
                tracing::info!(%until, "the authority changed; what is signed from now on is signed by the new one");
            }
            *last = Some(found.files);
        }
        if leads { self.publish(&authority.root_pem()).await } else { Ok(()) }
    }

    /// What is to be written now, if anything.
    fn due(&self, files: &Files) -> Result<Option<Files>, AuthorityError> {
        let now = OffsetDateTime::now_utc();
        if let Some(next) = rotate::step(files, now, self.lifetimes, &self.trust_domain)? {
            tracing::info!("the rotation of the root takes its next step");
            return Ok(Some(next));
        }
        if Signer::new(files)?.due_in(now).is_zero() {
            return renew::renewed(files, now, self.lifetimes, &self.trust_domain).map(Some);
        }
        Ok(None)
    }

    /// Writes the roots where everybody finds them.
    async fn publish(&self, roots: &str) -> Result<(), KeepError> {
        let failed = |e| self.failed("ConfigMap", ROOTS, e);
        let data = BTreeMap::from([(ROOT_CERT.to_owned(), roots.to_owned())]);
        match self.maps.get_opt(ROOTS).await.map_err(failed)? {
            Some(map) if map.data.as_ref() == Some(&data) => {}
            Some(map) => {
                let map = ConfigMap { data: Some(data), ..map };
                self.maps.replace(ROOTS, &PostParams::default(), &map).await.map_err(failed)?;
            }
            None => {
                let metadata = ObjectMeta { name: Some(ROOTS.into()), ..ObjectMeta::default() };
                let map = ConfigMap { metadata, data: Some(data), ..ConfigMap::default() };
                self.maps.create(&PostParams::default(), &map).await.map_err(failed)?;
            }
        }
        Ok(())
    }

    /// Begins to replace the root.
    pub async fn rotate(&self) -> Result<(), KeepError> {
        if self.find(USERS).await?.is_some() {
            let path = format!("Secret {}/{USERS}", self.namespace).into();
            let what = "is the user's own; put the new root beside the old one into root-cert.pem, wait for the life of a certificate, \
                        replace the signing certificate, wait again, and drop the old root"
                .into();
            return Err(AuthorityError::Unusable { path, what }.into());
        }
        let found =
            self.find(OWN).await?.ok_or_else(|| KeepError::Gone(format!("{}/{OWN}", self.namespace)))?;
        let next =
            rotate::begin(&found.files, OffsetDateTime::now_utc(), self.lifetimes, &self.trust_domain)?;
        let secret = secret(OWN, &next, found.version);
        let written = self.secrets.replace(OWN, &PostParams::default(), &secret).await;
        written.map(drop).map_err(|e| self.failed("Secret", OWN, e))
    }
}

fn secret(name: &str, files: &Files, version: Option<String>) -> Secret {
    let bytes = |(name, text): (&String, &String)| (name.clone(), ByteString(text.clone().into_bytes()));
    Secret {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            resource_version: version,
            ..ObjectMeta::default()
        },
        data: Some(files.texts.iter().map(bytes).collect()),
        type_: Some("Opaque".into()),
        ..Secret::default()
    }
}

/// Logs an error that was not logged just before.
fn complain(last: &mut String, error: &KeepError) {
    let text = error.to_string();
    if text != *last {
        tracing::error!(error = text, "the certificate authority");
        *last = text;
    }
}
