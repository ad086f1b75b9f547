//! How the client fares, for readiness and for the CLI.

use crate::discovery::{
    convert::{Kind, Refused},
    skew::{self, Skew},
};
use serde::Serialize;
use std::{collections::BTreeMap, time::SystemTime};
use tokio::sync::watch;

/// Refused resources are remembered up to this many; the rest are only counted.
const REFUSED_KEPT: usize = 100;

/// Follows a client's [`Status`].
pub type StatusHandle = watch::Receiver<Status>;

/// Which kinds were told in full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Synced {
    /// Workloads and services.
    pub addresses: bool,
    /// Policies.
    pub policies: bool,
    /// The pods of the node.
    pub node_pods: bool,
}

impl Synced {
    /// Whether all is told, the pods where they are asked for.
    fn is_all(self, node_pods: bool) -> bool {
        self.addresses && self.policies && (self.node_pods || !node_pods)
    }
}

/// How the client fares.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// The control plane's URL.
    pub control: String,
    /// The version of the control plane that answered last, where it is one of ours.
    pub version: Option<String>,
    /// Whether a stream is open now.
    pub connected: bool,
    /// Since when that is so.
    pub since: SystemTime,
    /// Resources that came from the cache at the start.
    pub restored: Option<usize>,
    /// Whether the pods of the node are asked for.
    #[serde(skip)]
    asks_for_pods: bool,
    /// Whether they were among what came from the cache.
    #[serde(skip)]
    restored_pods: bool,
    /// What the process has ever been told in full.
    pub synced: Synced,
    /// What the open stream has told so far.
    #[serde(skip)]
    current: Synced,
    /// Streams opened so far.
    pub connects: u64,
    /// Responses so far.
    pub responses: u64,
    /// Resources refused so far.
    pub refusals: u64,
    /// Refused resources that were not sent rightly since, and why.
    pub refused: BTreeMap<String, String>,
    /// Why the last connection ended or failed.
    pub last_error: Option<String>,
    /// Why the state on disk is not the newest, if it is not.
    pub cache_error: Option<String>,
}

impl Status {
    pub(super) fn new(control: &str, asks_for_pods: bool) -> Self {
        Self {
            control: control.to_owned(),
            version: None,
            connected: false,
            since: SystemTime::now(),
            restored: None,
            asks_for_pods,
            restored_pods: false,
            synced: Synced::default(),
            current: Synced::default(),
            connects: 0,
            responses: 0,
            refusals: 0,
            refused: BTreeMap::new(),
            last_error: None,
            cache_error: None,
        }
    }

    /// Whether there is a state to serve: from control, or from the cache.
    pub fn has_state(&self) -> bool {
        self.restored.is_some() && (self.restored_pods || !self.asks_for_pods)
            || self.synced.is_all(self.asks_for_pods)
    }

    /// Whether there are pods of the node to go by: those of the cache, or what control says.
    pub fn has_node_pods(&self) -> bool {
        self.restored_pods || self.synced.node_pods
    }

    /// How far control's version is from this program's.
    pub fn skew(&self) -> Skew {
        self.version.as_deref().map_or(Skew::Unknown, skew::skew)
    }

    /// The kinds that were asked for and of which the open stream has not told everything: an older control does not know
    /// all kinds, and says nothing of those.
    pub fn unanswered(&self) -> Vec<Kind> {
        let answered = |kind: &Kind| match kind {
            Kind::Address => self.current.addresses,
            Kind::Authorization => self.current.policies,
            Kind::NodePod => self.current.node_pods || !self.asks_for_pods,
        };
        Kind::ALL.into_iter().filter(|kind| !answered(kind)).collect()
    }

    /// Notes what control calls itself; answers whether it is another than before.
    pub(super) fn answers_as(&mut self, identifier: &str) -> bool {
        let version = skew::of_control(identifier).map(str::to_owned);
        let is_new = self.version != version;
        self.version = version;
        is_new
    }

    /// Notes what came from the cache.
    pub(super) fn restore(&mut self, resources: usize, node_pods: bool) {
        self.restored = Some(resources);
        self.restored_pods = node_pods;
    }

    /// Whether the last stream got as far as to tell everything.
    pub(super) fn synced_now(&self) -> bool {
        self.current.is_all(self.asks_for_pods)
    }

    pub(super) fn opened(&mut self) {
        self.connected = true;
        self.since = SystemTime::now();
        self.connects += 1;
        self.current = Synced::default();
        self.last_error = None;
    }

    pub(super) fn lost(&mut self, error: String) {
        if self.connected {
            self.since = SystemTime::now();
        }
        self.connected = false;
        self.current = Synced::default();
        self.last_error = Some(error);
    }

    /// Notes a response about `kind`. The kind is told in full by a response after which no more follows.
    pub(super) fn answered(&mut self, kind: Kind, more_follows: bool) {
        self.responses += 1;
        if more_follows {
            return;
        }
        for synced in [&mut self.current, &mut self.synced] {
            match kind {
                Kind::Address => synced.addresses = true,
                Kind::Authorization => synced.policies = true,
                Kind::NodePod => synced.node_pods = true,
            }
        }
    }

    /// Notes that `name` is right, or gone.
    pub(super) fn forgive(&mut self, name: &str) {
        self.refused.remove(name);
    }

    pub(super) fn refuse(&mut self, refused: &Refused) {
        self.refusals += 1;
        if self.refused.len() < REFUSED_KEPT {
            self.refused.insert(refused.resource.clone(), refused.cause.to_string());
        }
    }
}
