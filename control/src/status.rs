//! What is wrong with an object, said at the object: Events, and a condition of policies. Only the replica that leads does.
//!
//! What is to be said is planned as data ([`plan`]); this executes it, a few requests at a time.

mod condition;
mod plan;

use crate::source::kube::Served;
use k8s_openapi::{
    api::{core::v1::ObjectReference, events::v1::Event},
    apimachinery::pkg::apis::meta::v1::MicroTime,
    jiff::Timestamp,
};
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, ListParams, ObjectMeta, Patch, PatchParams, PostParams},
};
use plan::{Effect, Said};
use serde_json::Value;
use std::{sync::Arc, time::Duration, time::Instant};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use weft_api::{Kind, ObjectKey};
use weft_index::Finding;
use weft_io::told::whole;

/// How often is looked at what is to be said: a mistake that is mended at once is none.
const LOOK: Duration = Duration::from_secs(2);
/// How long it is waited where the API did not take it.
const AFTER_FAILURE: Duration = Duration::from_secs(30);
/// At most so much is said at a look; the rest follows.
const AT_ONCE: usize = 20;
/// How long one request may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Who says it.
const CONTROLLER: &str = "weft.dev/control";
/// Events hold no longer text, and object names leave room for what makes the Event's own.
const LONGEST_NOTE: usize = 1000;
const LONGEST_NAME: usize = 200;

/// Says at objects what is wrong with them.
pub(crate) struct Reporter {
    client: Client,
    served: Arc<Served>,
    replica: String,
    said: Said,
}

impl Reporter {
    /// One that says it as `replica`, at objects in the versions that they are `served` in.
    pub(crate) fn new(client: Client, served: Arc<Served>, replica: String) -> Self {
        Self { client, served, replica, said: Said::default() }
    }

    /// Follows `findings` while `lead` says so, until `shutdown`. Nothing is said before `ready`.
    pub(crate) async fn run(
        mut self,
        findings: watch::Receiver<Arc<Vec<Finding>>>,
        (lead, ready): (watch::Receiver<bool>, watch::Receiver<bool>),
        shutdown: CancellationToken,
    ) {
        let (mut led, mut complaint) = (false, String::new());
        loop {
            let pause = if complaint.is_empty() { LOOK } else { AFTER_FAILURE };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = shutdown.cancelled() => return,
            }
            let leads = *lead.borrow() && *ready.borrow();
            if !leads {
                led = false;
                continue;
            }
            let done = if led { Ok(()) } else { self.take_over().await };
            led = done.is_ok();
            let done = match done {
                Ok(()) => {
                    let now = findings.borrow().clone();
                    self.say(&now).await
                }
                error => error,
            };
            match done {
                Ok(()) => complaint.clear(),
                Err(error) => {
                    let error = whole(&error);
                    if error != complaint {
                        tracing::warn!(
                            error,
                            "what is wrong with objects cannot be said at them; control's account needs the verb create for events \
                             of events.k8s.io, and patch for authorizationpolicies/status and peerauthentications/status"
                        );
                        complaint = error;
                    }
                }
            }
        }
    }

    /// Finds the conditions that an earlier leader left.
    async fn take_over(&mut self) -> kube::Result<()> {
        self.said = Said::default();
        for kind in [Kind::AuthorizationPolicy, Kind::PeerAuthentication] {
            let api: Api<DynamicObject> = Api::all_with(self.client.clone(), &self.api_resource(kind));
            let mut params = ListParams::default().limit(200);
            loop {
                let page = match api.list(&params).await {
                    Ok(page) => page,
                    // A type that is not there has no objects.
                    Err(kube::Error::Api(status)) if status.code == 404 => break,
                    Err(error) => return Err(error),
                };
                for object in &page.items {
                    if condition::is_bad(object.data.get("status")) {
                        self.said.inherit(ObjectKey {
                            kind,
                            namespace: object.metadata.namespace.clone().unwrap_or_default(),
                            name: object.metadata.name.clone().unwrap_or_default(),
                        });
                    }
                }
                match page.metadata.continue_.filter(|more| !more.is_empty()) {
                    Some(more) => params.continue_token = Some(more),
                    None => break,
                }
            }
        }
        Ok(())
    }

    async fn say(&mut self, findings: &[Finding]) -> kube::Result<()> {
        let mut failed = None;
        for effect in self.said.plan(findings, Instant::now(), AT_ONCE) {
            let Ok(done) = tokio::time::timeout(PATIENCE, self.execute(&effect)).await else {
                // The API is slow; what is left waits for the next look.
                break;
            };
            match done {
                Ok(()) => self.said.done(effect, Instant::now()),
                Err(kube::Error::Api(status)) => match status.code {
                    // It changed meanwhile; the next look sees the newer one.
                    409 => {}
                    401 | 403 | 429 | 500.. => failed = Some(kube::Error::Api(status)),
                    // What is gone needs to be told nothing, and what the API will not take is not offered again.
                    _ => self.said.done(effect, Instant::now()),
                },
                Err(error) => return Err(error),
            }
        }
        failed.map_or(Ok(()), Err)
    }

    async fn execute(&self, effect: &Effect) -> kube::Result<()> {
        let key = effect.object();
        let resource = self.api_resource(key.kind);
        let api: Api<DynamicObject> = if key.kind.is_namespaced() {
            Api::namespaced_with(self.client.clone(), &key.namespace, &resource)
        } else {
            Api::all_with(self.client.clone(), &resource)
        };
        let object = api.get(&key.name).await?;
        match effect {
            Effect::Event { finding, reason, .. } => {
                let text = format!("{}{}; {}", prefix(&finding.field), finding.message, finding.mend);
                let regarding = ObjectReference {
                    api_version: Some(resource.api_version),
                    kind: Some(resource.kind),
                    name: Some(key.name.clone()),
                    namespace: key.kind.is_namespaced().then(|| key.namespace.clone()),
                    uid: object.metadata.uid,
                    resource_version: object.metadata.resource_version,
                    field_path: None,
                };
                self.publish(regarding, reason, cut(&text, LONGEST_NOTE)).await
            }
            Effect::Condition { verdict, .. } => {
                let old = object.data.get("status").cloned().unwrap_or(Value::Null);
                let generation = object.metadata.generation;
                let Some(conditions) =
                    condition::merge(&old, verdict, generation, &Timestamp::now().to_string())
                else {
                    return Ok(());
                };
                let patch = serde_json::json!({
                    "metadata": {"resourceVersion": object.metadata.resource_version},
                    "status": {"conditions": conditions},
                });
                api.patch_status(&key.name, &PatchParams::default(), &Patch::Merge(&patch)).await.map(drop)
            }
        }
    }

    fn api_resource(&self, kind: Kind) -> ApiResource {
        let resource = self.served.resource_of(kind);
        let api_version = match resource.group {
            "" => resource.version.to_owned(),
            group => format!("{group}/{}", resource.version),
        };
        ApiResource {
            group: resource.group.into(),
            version: resource.version.into(),
            api_version,
            kind: kind.as_str().into(),
            plural: resource.plural.into(),
        }
    }

    async fn publish(&self, regarding: ObjectReference, reason: &str, note: &str) -> kube::Result<()> {
        let now = Timestamp::now();
        let name = regarding.name.clone().unwrap_or_default();
        let name = format!("{}.{:x}", cut(&name, LONGEST_NAME), now.as_nanosecond());
        // Events about what has no namespace are kept in this one.
        let namespace = regarding.namespace.clone().unwrap_or_else(|| "default".into());
        let metadata =
            ObjectMeta { name: Some(name), namespace: Some(namespace.clone()), ..ObjectMeta::default() };
        let event = Event {
            metadata,
            action: Some("Read".into()),
            reason: Some(reason.to_owned()),
            note: Some(note.to_owned()),
            type_: Some("Warning".into()),
            event_time: Some(MicroTime(now)),
            regarding: Some(regarding),
            reporting_controller: Some(CONTROLLER.into()),
            reporting_instance: Some(cut(&self.replica, 128).to_owned()),
            ..Event::default()
        };
        let events: Api<Event> = Api::namespaced(self.client.clone(), &namespace);
        events.create(&PostParams::default(), &event).await.map(drop)
    }
}

fn prefix(field: &str) -> String {
    if field.is_empty() { String::new() } else { format!("{field}: ") }
}

/// The longest beginning of `text` that has at most so many bytes.
fn cut(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}
