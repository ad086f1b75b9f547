//! Certificates of the node's workloads: asked for once, kept, and renewed in time.

use super::{
    ca::{CaClient, CaError},
    clock::Clock,
    csr, schedule,
    workload_cert::{BadCertificate, Parts, WorkloadCert},
};
use rustc_hash::FxHashMap;
use serde::Serialize;
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};
use tokio::{
    runtime::Handle,
    sync::{Semaphore, watch},
    task::AbortHandle,
};
use weft_model::{Identity, Name};

/// How certificates are asked for.
#[derive(Clone, Debug)]
pub struct CertOptions {
    /// Trust domains besides the workload's own whose clients are accepted.
    pub trust_domain_aliases: Vec<Name>,
    /// How many requests may be at the authority at once.
    pub parallel_requests: usize,
    /// How long the authority may take to answer.
    pub request_timeout: Duration,
    /// The time of day.
    pub clock: Clock,
}

impl Default for CertOptions {
    fn default() -> Self {
        Self {
            trust_domain_aliases: Vec::new(),
            parallel_requests: 8,
            request_timeout: Duration::from_secs(10),
            clock: Clock::default(),
        }
    }
}

/// Why there is no certificate to use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertError {
    /// The authority gave none.
    #[error(transparent)]
    Ca(#[from] CaError),
    /// What the authority gave cannot be used.
    #[error(transparent)]
    Bad(#[from] BadCertificate),
    /// No key or request could be made.
    #[error("no key could be made: {0}")]
    Key(String),
    /// What the authority has just given is over by the clock of this machine.
    #[error(
        "a certificate that was issued just now is valid until {until}, and the clock here says {now}: it, or that of the control \
         plane, is wrong; set it (NTP)"
    )]
    Clock {
        /// The end of its validity.
        until: String,
        /// What the clock says.
        now: String,
    },
    /// The identity was forgotten while its certificate was awaited.
    #[error("the workload has left")]
    Forgotten,
}

/// Where an identity's certificate stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CertState {
    /// The first one is being asked for.
    Pending,
    /// One is at hand.
    Valid,
    /// The one at hand has expired, and renewal fails.
    Expired,
    /// The one at hand begins in the future, by the clock of this machine. It is used: others may know the time better.
    Early,
    /// There never was one: the authority does not give it.
    Failed,
}

/// One line of the list of certificates.
#[derive(Clone, Debug, Serialize)]
pub struct CertStatus {
    /// Whose certificate.
    pub identity: Identity,
    /// Where it stands.
    pub state: CertState,
    /// The serial number of the one at hand, in hexadecimal.
    pub serial: Option<String>,
    /// The start of its validity.
    pub not_before: Option<SystemTime>,
    /// The end of its validity.
    pub not_after: Option<SystemTime>,
    /// What the last attempt to renew it ended with, if it failed.
    pub last_error: Option<String>,
}

#[derive(Clone, Debug, Default)]
struct Held {
    cert: Option<Arc<WorkloadCert>>,
    error: Option<CertError>,
}

struct Entry {
    held: watch::Receiver<Held>,
    renewal: AbortHandle,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.renewal.abort();
    }
}

/// Keeps a certificate for each identity that was asked for, until it is forgotten.
///
/// Requests are made and renewed by tasks of the runtime that `new` was called in, one task an identity; callers on any
/// thread wait for its result, so that a thousand connections at once make one request.
#[derive(Clone)]
pub struct CertManager {
    shared: Arc<Shared>,
}

struct Shared {
    issuer: Issuer,
    runtime: Handle,
    entries: Mutex<FxHashMap<Identity, Entry>>,
    /// Counts the certificates that were issued or forgotten, and the first failures to get one.
    changes: Arc<watch::Sender<u64>>,
}

impl CertManager {
    /// A manager that asks `ca`; its tasks run on the current runtime.
    ///
    /// # Panics
    /// Outside a Tokio runtime.
    pub fn new(ca: Arc<dyn CaClient>, options: CertOptions) -> Self {
        let slots = Arc::new(Semaphore::new(options.parallel_requests.max(1)));
        let changes = Arc::new(watch::Sender::new(0));
        let issuer = Issuer { ca, options: Arc::new(options), slots, changes: changes.clone() };
        let shared = Shared { issuer, runtime: Handle::current(), entries: Mutex::default(), changes };
        Self { shared: Arc::new(shared) }
    }

    /// The certificate of `identity`, waiting for the authority where none is at hand yet.
    ///
    /// Fails at once where the last attempt failed and no valid certificate is left; attempts go on meanwhile.
    pub async fn certificate(&self, identity: &Identity) -> Result<Arc<WorkloadCert>, CertError> {
        let mut held = self.watch(identity);
        loop {
            {
                let now = held.borrow_and_update();
                if let Some(cert) = now.cert.as_ref().filter(|c| c.is_valid_at(self.now())) {
                    return Ok(cert.clone());
                }
                if let Some(error) = &now.error {
                    return Err(error.clone());
                }
            }
            held.changed().await.map_err(|_| CertError::Forgotten)?;
        }
    }

    /// Asks for the certificate of `identity` without waiting, so that the first connection finds it.
    pub fn prefetch(&self, identity: &Identity) {
        self.watch(identity);
    }

    /// Drops the certificates of all identities but those that are `wanted`, and stops renewing them.
    pub fn retain(&self, wanted: impl Fn(&Identity) -> bool) {
        let mut entries = self.entries();
        let before = entries.len();
        entries.retain(|identity, _| wanted(identity));
        if entries.len() < before {
            self.shared.changes.send_modify(|n| *n += 1);
        }
    }

    /// Takes over a certificate that the process before this one got, unless there is one already; it is renewed when
    /// its time comes, as if it had been issued here.
    pub fn adopt(&self, identity: &Identity, parts: Parts) -> Result<(), BadCertificate> {
        let aliases = &self.shared.issuer.options.trust_domain_aliases;
        let cert = WorkloadCert::new(identity.clone(), parts.key, &parts.chain, aliases)?;
        let now = self.now();
        // When it was issued is not known any more.
        let pause = schedule::renew_in(cert.not_before(), cert.not_after(), now, rand::random());
        if cert.is_valid_at(now) {
            let held = Held { cert: Some(Arc::new(cert)), error: None };
            self.start(identity, held, pause);
        }
        Ok(())
    }

    /// The certificates that are valid now.
    pub fn valid(&self) -> Vec<Arc<WorkloadCert>> {
        let now = self.now();
        let certs = self.entries().values().filter_map(|e| e.held.borrow().cert.clone()).collect::<Vec<_>>();
        certs.into_iter().filter(|c| c.is_valid_at(now)).collect()
    }

    /// Whether each certificate that was asked for is at hand, or was refused: whoever asks for one now need not wait.
    pub fn is_settled(&self) -> bool {
        self.entries().values().all(|e| {
            let held = e.held.borrow();
            held.cert.is_some() || held.error.is_some()
        })
    }

    /// Announces that [`CertManager::valid`] or [`CertManager::is_settled`] may answer otherwise than before.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.shared.changes.subscribe()
    }

    /// All identities and where their certificates stand, sorted by identity.
    pub fn list(&self) -> Vec<CertStatus> {
        let now = self.now();
        let entries = self.entries();
        let mut list: Vec<_> =
            entries.iter().map(|(identity, entry)| status(identity, &entry.held.borrow(), now)).collect();
        list.sort_by(|a, b| a.identity.cmp(&b.identity));
        list
    }

    fn now(&self) -> SystemTime {
        self.shared.issuer.options.clock.now()
    }

    fn entries(&self) -> MutexGuard<'_, FxHashMap<Identity, Entry>> {
        self.shared.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn watch(&self, identity: &Identity) -> watch::Receiver<Held> {
        self.start(identity, Held::default(), Duration::ZERO)
    }

    /// What is held for `identity`; where that is nothing yet, `first`, to be renewed after `pause`.
    fn start(&self, identity: &Identity, first: Held, pause: Duration) -> watch::Receiver<Held> {
        let mut entries = self.entries();
        if let Some(entry) = entries.get(identity) {
            return entry.held.clone();
        }
        let (publish, held) = watch::channel(first);
        let task = self.shared.issuer.clone().keep(identity.clone(), publish, pause);
        let renewal = self.shared.runtime.spawn(task).abort_handle();
        entries.insert(identity.clone(), Entry { held: held.clone(), renewal });
        held
    }
}

fn status(identity: &Identity, held: &Held, now: SystemTime) -> CertStatus {
    let cert = held.cert.as_deref();
    let state = match (cert, &held.error) {
        (Some(cert), _) if now < cert.not_before() => CertState::Early,
        (Some(cert), _) if cert.is_valid_at(now) => CertState::Valid,
        (Some(_), _) => CertState::Expired,
        (None, Some(_)) => CertState::Failed,
        (None, None) => CertState::Pending,
    };
    CertStatus {
        identity: identity.clone(),
        state,
        serial: cert.map(|c| c.serial().to_owned()),
        not_before: cert.map(WorkloadCert::not_before),
        not_after: cert.map(WorkloadCert::not_after),
        last_error: held.error.as_ref().map(CertError::to_string),
    }
}

#[derive(Clone)]
struct Issuer {
    ca: Arc<dyn CaClient>,
    options: Arc<CertOptions>,
    slots: Arc<Semaphore>,
    changes: Arc<watch::Sender<u64>>,
}

impl Issuer {
    /// Gets a certificate of `identity` after `pause`, publishes it, and renews it for as long as the task lives.
    async fn keep(self, identity: Identity, publish: watch::Sender<Held>, pause: Duration) {
        let clock = &self.options.clock;
        let mut failures = 0;
        clock.rest(pause).await;
        loop {
            let patience = schedule::patience(self.options.request_timeout, left(&publish, clock.now()));
            let issued = self.issue(&identity, patience).await.and_then(|cert| match clock.now() {
                now if cert.is_valid_at(now) => Ok(cert),
                now => {
                    let error = CertError::Clock { until: told(cert.not_after()), now: told(now) };
                    // It serves as soon as the clock is right; until then the next would be the same, and is not asked for at once.
                    publish.send_modify(|held| held.cert = Some(Arc::new(cert)));
                    Err(error)
                }
            });
            let pause = match issued {
                Ok(cert) => {
                    failures = 0;
                    let now = clock.now();
                    if now < cert.not_before() {
                        tracing::warn!(%identity, from = told(cert.not_before()), now = told(now),
                            "a certificate that was issued just now begins in the future by the clock here: set it (NTP); until \
                             then those of other nodes may be refused");
                    }
                    // By a clock that is behind, it would live for longer than it does.
                    let life = cert.not_after().duration_since(cert.not_before()).unwrap_or_default();
                    let end = cert.not_after().min(now + life);
                    let pause = schedule::renew_in(now, end, now, rand::random());
                    tracing::debug!(%identity, serial = cert.serial(), next_s = pause.as_secs(), "certificate issued");
                    // At once: who sees the certificate sees the count.
                    self.changes.send_modify(|n| {
                        publish.send_modify(|held| *held = Held { cert: Some(Arc::new(cert)), error: None });
                        *n += 1;
                    });
                    pause
                }
                Err(error) => {
                    failures += 1;
                    let pause = schedule::retry_in(failures, left(&publish, clock.now()), rand::random());
                    tracing::warn!(%identity, %error, retry_ms = pause.as_millis(), "no certificate");
                    // The certificate that is still valid stays in use.
                    publish.send_modify(|held| held.error = Some(error));
                    if failures == 1 {
                        self.changes.send_modify(|n| *n += 1);
                    }
                    pause
                }
            };
            clock.rest(pause).await;
        }
    }

    async fn issue(&self, identity: &Identity, patience: Duration) -> Result<WorkloadCert, CertError> {
        let request = csr::request(identity).map_err(|e| CertError::Key(e.to_string()))?;
        // The semaphore is never closed; without a slot the request would only be made too early.
        let _slot = self.slots.acquire().await;
        let asked = self.ca.issue(identity, &request.csr_pem);
        let chain = tokio::time::timeout(patience, asked)
            .await
            .map_err(|_| CaError::Unavailable("no answer in time".into()))??;
        let aliases = &self.options.trust_domain_aliases;
        Ok(WorkloadCert::new(identity.clone(), request.key, &chain, aliases)?)
    }
}

/// A time as people read it, to the second.
fn told(at: SystemTime) -> String {
    jiff::Timestamp::try_from(at).map_or_else(|_| "a time of no calendar".to_owned(), |at| format!("{at:.0}"))
}

/// How long the certificate at hand is still valid; nothing where there is none.
fn left(held: &watch::Sender<Held>, now: SystemTime) -> Duration {
    let not_after = held.borrow().cert.as_ref().map(|cert| cert.not_after());
    not_after.and_then(|end| end.duration_since(now).ok()).unwrap_or_default()
}
