//! The authority in a Secret: found or made at the start, followed by every replica, written by the one that leads.
//!
//! Control's own Secret holds what is in force. A user's Secret says what shall be: whatever becomes of that one, the authority
//! in force is there, and what is new takes over in steps (`adopt`).

use super::{
    adopt,
    authority::{Authority, AuthorityError, Lifetimes, ROOT_CERT, Signer},
    files::Files,
    generate::{self, ROOT_KEY},
    renew, rotate,
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
use weft_index::{Finding, Severity};
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
    /// What the user brought is gone.
    #[error(
        "there is no Secret {0} any more; the authority that it brought stays in force as it was: put the Secret back, or run \
         `weft-control rotate-root --kube` to have control's own take over"
    )]
    UsersGone(String),
    /// What the user brought ends, and nobody here can renew it.
    #[error("the signing certificate of Secret {0} ends at {1}; put another one there")]
    UsersEnds(String, OffsetDateTime),
    /// The user's is in force.
    #[error(
        "the authority is the user's own, of Secret {0}: put the new one there, and control takes the steps by itself; or delete \
         that Secret first, and control's own takes over"
    )]
    Users(String),
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
    findings: watch::Sender<Vec<Finding>>,
}

/// A Secret as it was found.
struct Found {
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
            findings: watch::channel(Vec::new()).0,
        }
    }

    /// What is wrong with the authority now.
    pub fn findings(&self) -> watch::Receiver<Vec<Finding>> {
        self.findings.subscribe()
    }

    /// The authority in force. Where there is none yet it is the user's, if there is one, or one that is made. It is asked for
    /// until there is an answer.
    pub async fn open(&self) -> Arc<Authority> {
        let mut complaint = String::new();
        loop {
            match self.find_or_make().await {
                Ok(found) => match Authority::of(&found.files, self.lifetimes, &self.trust_domain) {
                    Ok(authority) => return Arc::new(authority),
                    Err(error) => self.complain(&mut complaint, &error.into()),
                },
                Err(error) => self.complain(&mut complaint, &error),
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    async fn find_or_make(&self) -> Result<Found, KeepError> {
        if let Some(found) = self.find(OWN).await? {
            return Ok(found);
        }
        let origin = self.origin();
        let files = match self.find(USERS).await? {
            Some(users) => adopt::copy(&users.files, Path::new(&origin), &self.trust_domain)?,
            None => generate::make(Path::new(&origin), self.lifetimes, &self.trust_domain)?,
        };
        let secret = secret(OWN, &files, None);
        // Of several replicas that make one at the same time the API takes the first, and the others find that.
        match self.secrets.create(&PostParams::default(), &secret).await {
            Ok(_) => {
                let users = !files.texts.contains_key(ROOT_KEY);
                tracing::info!(secret = OWN, users, "there is an authority now");
            }
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(cause) => return Err(self.failed("Secret", OWN, cause)),
        }
        self.find(OWN).await?.ok_or_else(|| KeepError::Gone(self.full(OWN)))
    }

    fn full(&self, name: &str) -> String {
        format!("{}/{name}", self.namespace)
    }

    /// What messages call control's own Secret.
    fn origin(&self) -> String {
        format!("Secret {}", self.full(OWN))
    }

    async fn find(&self, name: &str) -> Result<Option<Found>, KeepError> {
        let found = self.secrets.get_opt(name).await.map_err(|e| self.failed("Secret", name, e))?;
        let Some(secret) = found else { return Ok(None) };
        let data: BTreeMap<String, Vec<u8>> = secret
            .data
            .unwrap_or_default()
            .into_iter()
            .map(|(key, ByteString(bytes))| (key, bytes))
            .collect();
        let files = Files::of_secret(&self.full(name), data)?;
        Ok(Some(Found { files, version: secret.metadata.resource_version }))
    }

    fn failed(&self, kind: &str, name: &str, cause: kube::Error) -> KeepError {
        KeepError::Api { object: format!("{kind} {}/{name}", self.namespace), cause: Box::new(cause) }
    }

    /// Follows the authority in force; while `lead` says so, writes what is due: the next step towards what the user brings or
    /// of a rotation, a renewed signing certificate, the roots for everybody.
    pub async fn keep(
        self,
        authority: Arc<Authority>,
        mut lead: watch::Receiver<bool>,
        shutdown: CancellationToken,
    ) {
        let (mut last, mut complaint) = (None, String::new());
        loop {
            let leads = *lead.borrow_and_update();
            match self.look(&authority, &mut last, leads).await {
                Ok(()) => {
                    complaint.clear();
                    self.findings.send_if_modified(|findings| !std::mem::take(findings).is_empty());
                }
                Err(error) => self.complain(&mut complaint, &error),
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
        authority: &Authority,
        last: &mut Option<Files>,
        leads: bool,
    ) -> Result<(), KeepError> {
        let mut found = self.find(OWN).await?.ok_or_else(|| KeepError::Gone(self.full(OWN)))?;
        let users = self.find(USERS).await;
        // What is wrong with the user's Secret is said at the end: what is in force goes on whatever that is.
        let (wish, trouble) = match self.wish(&found.files, users) {
            Ok(wish) => (wish, None),
            Err(error) => (None, Some(error)),
        };
        let due = match (leads, wish) {
            (false, _) => None,
            (true, None) => self.due(&found.files)?,
            (true, wish) => wish,
        };
        if let Some(next) = due {
            // The version goes along: what somebody else wrote meanwhile is not overwritten.
            let secret = secret(OWN, &next, found.version.clone());
            let written = self.secrets.replace(OWN, &PostParams::default(), &secret).await;
            written.map_err(|e| self.failed("Secret", OWN, e))?;
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
        if leads {
            self.publish(&authority.root_pem()).await?;
        }
        trouble.map_or(Ok(()), Err)
    }

    /// What the user's Secret makes of what is in force, if anything.
    fn wish(
        &self,
        files: &Files,
        users: Result<Option<Found>, KeepError>,
    ) -> Result<Option<Files>, KeepError> {
        let (now, is_own) = (OffsetDateTime::now_utc(), files.texts.contains_key(ROOT_KEY));
        let Some(users) = users? else {
            let left = adopt::give_up(files, now)?;
            let is_gone = !is_own && left.is_none() && !rotate::is_to_own(files);
            return if is_gone { Err(KeepError::UsersGone(self.full(USERS))) } else { Ok(left) };
        };
        let next = adopt::step(files, &users.files, now, &self.trust_domain)?;
        if next.is_some() {
            tracing::info!(secret = USERS, "an authority that was brought takes over");
        } else if !is_own && Signer::new(files)?.is_ending(now) {
            return Err(KeepError::UsersEnds(self.full(USERS), Signer::new(files)?.not_after));
        }
        Ok(next)
    }

    /// What is to be written now, if anything.
    fn due(&self, files: &Files) -> Result<Option<Files>, AuthorityError> {
        let now = OffsetDateTime::now_utc();
        if let Some(next) = rotate::step(files, now, self.lifetimes, &self.trust_domain)? {
            tracing::info!("the rotation of the root takes its next step");
            return Ok(Some(next));
        }
        // Without the root's key it is the user's to renew.
        if files.texts.contains_key(ROOT_KEY) && Signer::new(files)?.due_in(now).is_zero() {
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

    /// Says what is wrong; what was said just before is not logged again.
    fn complain(&self, last: &mut String, error: &KeepError) {
        let text = error.to_string();
        if text == *last {
            return;
        }
        tracing::error!(error = text, "the certificate authority");
        self.findings.send_replace(vec![Finding {
            severity: Severity::Error,
            file: None,
            object: None,
            field: "certificate authority".to_owned(),
            message: text.clone(),
            mend: "until then the authority in force stays as it is".to_owned(),
        }]);
        *last = text;
    }

    /// Begins to replace the root.
    pub async fn rotate(&self) -> Result<(), KeepError> {
        if self.find(USERS).await?.is_some() {
            return Err(KeepError::Users(self.full(USERS)));
        }
        let found = self.find(OWN).await?.ok_or_else(|| KeepError::Gone(self.full(OWN)))?;
        let now = OffsetDateTime::now_utc();
        let next = if found.files.texts.contains_key(ROOT_KEY) {
            rotate::begin(&found.files, now, self.lifetimes, &self.trust_domain)?
        } else {
            // A user's is in force that nobody brings any more.
            let own = generate::make(Path::new(&self.origin()), self.lifetimes, &self.trust_domain)?;
            adopt::begin(&found.files, &own, now)?
        };
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
