//! The mode without privileges: nothing is captured, applications are pointed at listeners of the agent.

use super::{AppError, Base};
use crate::{
    config::ExplicitWorkload,
    inbound::revoke,
    keeper::{KeeperClient, client::Wish},
    lanes::{Lanes, Serve, Shared},
    pods::{
        Pod, PodSpec,
        listeners::{self, Role},
        roster::{Listed, Roster, Standing},
    },
};
use serde_json::json;
use std::{
    net::{SocketAddr, TcpListener},
    sync::Arc,
};
use tokio::sync::{Notify, mpsc};
use weft_io::{
    discovery::StatusHandle,
    lifecycle::{drain::Watcher, ready},
};
use weft_model::Snapshot;

/// Serves the configured workloads.
pub struct Explicit {
    /// Where connections are carried.
    pub lanes: Lanes,
    /// What others may see.
    pub roster: Arc<Roster>,
    entries: Vec<Entry>,
    shared: Arc<Shared>,
    changed: Arc<Notify>,
    status: StatusHandle,
    ready: Option<ready::Guard>,
    keeper: Arc<KeeperClient>,
    wishes: mpsc::Receiver<Wish>,
}

/// One workload.
struct Entry {
    spec: PodSpec,
    asked: ExplicitWorkload,
    /// Taken when they are given to the lanes.
    listeners: Vec<(Role, TcpListener)>,
}

impl Explicit {
    /// Opens the listeners and says in `explicit.json` where they are.
    pub(super) fn start(base: &Base, drain: &Watcher) -> Result<Self, AppError> {
        let lanes = (0..base.config.lanes.get()).map(|_| None).collect();
        let lanes = Lanes::start(lanes, &base.shared, drain).map_err(AppError::Threads)?;
        let asked = base.config.explicit.iter().flat_map(|e| &e.workloads);
        let entries = asked.map(Entry::open).collect::<Result<Vec<_>, _>>()?;
        let path = base.config.state_dir.join("explicit.json");
        let shown = json!({ "workloads": entries.iter().map(Entry::shown).collect::<Vec<_>>() });
        let written = std::fs::write(&path, format!("{shown:#}\n"));
        written.map_err(|source| AppError::Write { path, source })?;
        Ok(Self {
            lanes,
            roster: Arc::default(),
            entries,
            shared: base.shared.clone(),
            changed: base.changed.clone(),
            status: base.status.clone(),
            ready: Some(base.ready.task("workloads")),
            keeper: base.keeper.clone(),
            wishes: base.keeper.wishes().map_err(AppError::Keeper)?,
        })
    }

    /// Follows the state of the mesh until the keeper wants this to end.
    pub async fn run(&mut self) -> Result<(), AppError> {
        let mut issued = self.shared.certs.changes();
        loop {
            let snapshot = self.shared.store.load();
            for entry in &mut self.entries {
                entry.serve(&snapshot, &self.shared, &self.lanes).await;
            }
            self.publish(&snapshot);
            // Once is enough here: a connection that is being judged meanwhile asks again when it is in the table.
            let closed = revoke(&snapshot, &self.shared.telemetry.connections);
            if closed > 0 {
                tracing::info!(connections = closed, "closing what the policies no longer allow");
            }
            if self.ready.is_some() && self.status.borrow().has_state() && self.shared.certs.is_settled() {
                self.keeper.ready();
                self.ready = None;
                tracing::info!(workloads = self.entries.len(), "ready, without capture");
            }
            let is_ready = self.ready.is_none();
            tokio::select! {
                () = self.changed.notified() => {}
                _ = issued.changed(), if !is_ready => {}
                Some(wish) = self.wishes.recv() => match wish {
                    Wish::Drain => return Ok(()),
                    Wish::Regrown | Wish::Alone => {}
                },
            }
        }
    }

    fn publish(&self, snapshot: &Snapshot) {
        let listed = self.entries.iter().map(|entry| {
            let workload = snapshot.workload_of_pod(&entry.spec.namespace, &entry.spec.name);
            let standing = if entry.listeners.is_empty() { Standing::Enrolled } else { Standing::Outside };
            let addresses = workload.map(|w| w.addresses.clone()).unwrap_or_default();
            Listed { spec: entry.spec.clone(), addresses, standing }
        });
        self.roster.listed.store(Arc::new(listed.collect()));
    }
}

impl Entry {
    fn open(asked: &ExplicitWorkload) -> Result<Self, AppError> {
        let listen = |(role, at): (Role, SocketAddr)| match listeners::bind(at) {
            Ok(listener) => Ok((role, listener)),
            Err(source) => Err(AppError::Listen { at, source }),
        };
        let roles = Role::EXPLICIT.into_iter().zip([asked.connect, asked.socks, asked.hbone]);
        let spec = PodSpec::new(asked.namespace.as_str(), asked.name.as_str(), "/proc/self/ns/net");
        Ok(Self { spec, asked: asked.clone(), listeners: roles.map(listen).collect::<Result<_, _>>()? })
    }

    fn shown(&self) -> serde_json::Value {
        let mut shown = json!({ "namespace": self.asked.namespace, "name": self.asked.name });
        for (role, listener) in &self.listeners {
            shown[role.as_str()] = json!(listener.local_addr().map(|at| at.to_string()).unwrap_or_default());
        }
        shown
    }

    /// Gives the listeners to the lanes, as soon as the workload is known to be meshed.
    async fn serve(&mut self, snapshot: &Snapshot, shared: &Shared, lanes: &Lanes) {
        let workload = snapshot.workload_of_pod(&self.spec.namespace, &self.spec.name);
        let Some(workload) = workload.filter(|w| w.is_meshed() && !self.listeners.is_empty()) else { return };
        let pod = match Pod::explicit(self.spec.clone(), workload.uid.clone(), self.asked.deliver) {
            Ok(pod) => Arc::new(pod),
            Err(error) => {
                tracing::error!(pod = %self.spec, %error, "the workload cannot be served");
                return;
            }
        };
        shared.certs.prefetch(&workload.identity());
        for (index, (role, listener)) in self.listeners.drain(..).enumerate() {
            lanes.serve(index, Serve { pod: pod.clone(), role, listener }).await;
        }
        tracing::info!(pod = %self.spec, "served");
    }
}
