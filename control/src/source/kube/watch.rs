//! One kind: listed in pages, then watched, and listed again where the watch has a gap.
//!
//! The client's own watcher recovers as well, but does not tell when it did; here a finding about a kind ends with the first
//! answer.

use super::{
    kinds::{Shape, is_custom, is_dispensable, resource_of},
    object::Raw,
    state::State,
    trouble::Trouble,
    types::{self, Served, Type},
};
use futures::StreamExt;
use kube::{
    Api, Client,
    api::{ListParams, WatchEvent, WatchParams},
};
use std::{pin::pin, sync::Arc, time::Duration};
use tokio::sync::mpsc;
use weft_api::Kind;
use weft_index::{Change, Finding};
use weft_io::told::whole;

/// Objects of one page of a list.
const PAGE: u32 = 500;
/// The API ends a watch after so many seconds; it goes on where it ended.
const WATCH_SECONDS: u32 = 290;
/// A watch that says nothing for longer has lost its connection: the API would have ended it.
const SILENCE: Duration = Duration::from_secs(WATCH_SECONDS as u64 + 5);
/// Events that arrived together are told together, up to so many.
const TOGETHER: usize = 256;
/// Pauses after failures.
const PAUSE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// What one kind has to say.
#[derive(Debug)]
pub(super) struct Told {
    /// Which one.
    pub kind: Kind,
    /// What changed.
    pub changes: Vec<Change>,
    /// Everything that is wrong with objects of this kind, where that changed.
    pub findings: Option<Vec<Finding>>,
    /// Whether the mesh can be told, as far as this kind goes.
    pub settled: bool,
}

/// Reads a kind until nobody listens.
pub(super) async fn run<S: Shape>(client: Client, served: Arc<Served>, told: mpsc::Sender<Told>) {
    let version = resource_of(S::KIND).version;
    let mut reader = Reader::<S> {
        api: Api::all_with(client.clone(), &version),
        client,
        served,
        version,
        there_were: false,
        state: State::new(),
        told: told.clone(),
        trouble: None,
        read_once: false,
        pause: PAUSE.0,
    };
    tokio::select! {
        _ = reader.run() => {}
        () = told.closed() => {}
    }
}

/// Nobody listens any more.
struct Unheard;

struct Reader<S: Shape> {
    client: Client,
    api: Api<Raw<S>>,
    /// The version that is asked for, and where others look it up.
    version: &'static str,
    served: Arc<Served>,
    /// Whether there were ever objects of the kind.
    there_were: bool,
    state: State<S>,
    told: mpsc::Sender<Told>,
    trouble: Option<Trouble>,
    /// Whether it is known once which objects of the kind there are.
    read_once: bool,
    pause: Duration,
}

impl<S: Shape> Reader<S> {
    async fn run(&mut self) -> Result<(), Unheard> {
        loop {
            let mut version = match self.list().await? {
                Ok(version) => version,
                Err(Trouble::NotFound) if is_custom(S::KIND) => {
                    self.look().await?;
                    continue;
                }
                Err(trouble) => {
                    self.suffer(trouble).await?;
                    continue;
                }
            };
            // A watch that ends is taken up where it ended, for as long as the API remembers.
            while let Err(trouble) = self.follow(&mut version).await? {
                if trouble == Trouble::NotFound {
                    // The list says more.
                    tokio::time::sleep(PAUSE.0).await;
                    break;
                }
                let again = trouble == Trouble::Expired;
                self.suffer(trouble).await?;
                if again {
                    break;
                }
            }
        }
    }

    /// Looks why the API does not find the kind.
    async fn look(&mut self) -> Result<(), Unheard> {
        let trouble = match types::look(&self.client, S::KIND).await {
            Ok(Type::Served(version)) if version != self.version => {
                tracing::info!(
                    kind = S::KIND.as_str(),
                    version,
                    "the cluster serves the kind in another version"
                );
                self.served.set(S::KIND, version);
                self.api = Api::all_with(self.client.clone(), &version);
                self.version = version;
                return Ok(());
            }
            Ok(Type::Served(_) | Type::Pending) => Trouble::Pending,
            Ok(Type::Unserved(versions)) => Trouble::Unserved(versions),
            Ok(Type::Absent) => {
                // That there are none is known as well.
                self.read_once = true;
                let gone = self.state.clear();
                if !gone.is_empty() {
                    let (kind, count) = (S::KIND.as_str(), gone.len());
                    tracing::warn!(kind, count, "the type of these objects was deleted, and they with it");
                }
                self.trouble = Some(Trouble::Missing { emptied: self.there_were });
                self.tell(gone).await?;
                Trouble::Missing { emptied: self.there_were }
            }
            Err(error) => Trouble::Unsure(whole(&error)),
        };
        self.suffer(trouble).await
    }

    /// Lists everything; answers up to which version that is.
    async fn list(&mut self) -> Result<Result<String, Trouble>, Unheard> {
        self.state.list();
        let mut params = ListParams::default().limit(PAGE);
        params.field_selector = S::SELECTED.map(str::to_owned);
        loop {
            let page = match self.api.list(&params).await {
                Ok(page) => page,
                Err(error) => return Ok(Err(Trouble::of("list", &error))),
            };
            let (more, version) = (page.metadata.continue_, page.metadata.resource_version);
            let changes: Vec<Change> = page.items.into_iter().filter_map(|raw| self.state.put(raw)).collect();
            if let Some(more) = more.filter(|more| !more.is_empty()) {
                params.continue_token = Some(more);
                self.tell(changes).await?;
                continue;
            }
            let gone = self.state.list_done();
            self.read_once = true;
            self.well();
            self.tell(changes.into_iter().chain(gone).collect()).await?;
            return Ok(version.filter(|v| !v.is_empty()).ok_or(Trouble::Expired));
        }
    }

    /// Watches from `version` on until the watch ends, and keeps `version` up to date.
    async fn follow(&mut self, version: &mut String) -> Result<Result<(), Trouble>, Unheard> {
        let mut params = WatchParams::default().timeout(WATCH_SECONDS);
        params.field_selector = S::SELECTED.map(str::to_owned);
        loop {
            let events = match self.api.watch(&params, version).await {
                Ok(events) => events,
                Err(error) => return Ok(Err(Trouble::of("watch", &error))),
            };
            if self.trouble.is_some() {
                self.well();
                self.tell(Vec::new()).await?;
            }
            let mut events = pin!(events.ready_chunks(TOGETHER));
            while let Ok(Some(together)) = tokio::time::timeout(SILENCE, events.next()).await {
                let mut changes = Vec::new();
                let mut end = None;
                for event in together {
                    match self.take(event, version) {
                        Ok(change) => changes.extend(change),
                        Err(trouble) => end = Some(trouble),
                    }
                    if end.is_some() {
                        break;
                    }
                }
                self.tell(changes).await?;
                match end {
                    None => {}
                    // Connections end; whether the API is away shows when the watch is taken up again.
                    Some(Trouble::Away(why)) => {
                        tracing::debug!(kind = S::KIND.as_str(), why, "watch ended");
                        tokio::time::sleep(PAUSE.0).await;
                        break;
                    }
                    Some(trouble) => return Ok(Err(trouble)),
                }
            }
        }
    }

    /// Takes in what a watch says.
    fn take(
        &mut self,
        event: kube::Result<WatchEvent<Raw<S>>>,
        version: &mut String,
    ) -> Result<Option<Change>, Trouble> {
        let (raw, is_there) = match event.map_err(|e| Trouble::of("watch", &e))? {
            WatchEvent::Added(raw) | WatchEvent::Modified(raw) => (raw, true),
            WatchEvent::Deleted(raw) => (raw, false),
            WatchEvent::Bookmark(mark) => {
                *version = mark.metadata.resource_version;
                return Ok(None);
            }
            WatchEvent::Error(status) => return Err(Trouble::of("watch", &kube::Error::Api(status))),
        };
        if let Some(newest) = &raw.metadata.resource_version {
            version.clone_from(newest);
        }
        Ok(if is_there { self.state.put(raw) } else { self.state.remove(raw.name()) })
    }

    /// Notes that something is wrong, and waits a while.
    async fn suffer(&mut self, trouble: Trouble) -> Result<(), Unheard> {
        if trouble == Trouble::Expired {
            let kind = S::KIND.as_str();
            tracing::info!(
                kind,
                "the API no longer knows what was watched last; everything of the kind is listed again"
            );
        } else {
            self.trouble = Some(trouble);
            self.tell(Vec::new()).await?;
        }
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(PAUSE.1);
        Ok(())
    }

    fn well(&mut self) {
        (self.trouble, self.pause) = (None, PAUSE.0);
    }

    async fn tell(&mut self, changes: Vec<Change>) -> Result<(), Unheard> {
        self.there_were |= changes.iter().any(|change| matches!(change, Change::Put(_)));
        let mut findings = self.state.findings();
        findings.extend(self.trouble.as_ref().and_then(|t| t.finding(S::KIND, self.read_once)));
        let findings = self.state.changed(findings);
        let settled = self.read_once || (is_dispensable(S::KIND) && self.trouble.is_some());
        if changes.is_empty() && findings.is_none() && !settled {
            return Ok(());
        }
        self.told.send(Told { kind: S::KIND, changes, findings, settled }).await.map_err(|_| Unheard)
    }
}
