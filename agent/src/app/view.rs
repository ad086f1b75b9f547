//! The agent's parts as admin asks for them.

mod older;

use super::{guard::GuardView, lock};
use crate::{
    admin::{self, AgentView, OlderError, proto},
    config::Config,
    drains::Drains,
    kernel::Kernel,
    pods::{
        older::Notes,
        roster::{Roster, Standing},
    },
};
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};
use weft_io::{
    discovery::StatusHandle,
    tls::{CertManager, CertStatus},
};
use weft_model::{SnapshotStore, Workload};

/// Handles of everything that admin shows.
pub struct View {
    /// The configuration.
    pub config: Config,
    /// The node's pods.
    pub roster: Arc<Roster>,
    /// What is noted of their older connections.
    pub notes: Notes,
    /// What is known of the mesh.
    pub snapshots: Arc<SnapshotStore>,
    /// Their certificates.
    pub certs: CertManager,
    /// How discovery fares.
    pub status: StatusHandle,
    /// The kernel's side; none where nothing is captured.
    pub kernel: Option<Arc<Mutex<Kernel>>>,
    /// What keeps pods from the mesh that are not known yet; none where nobody says which there are.
    pub guard: Option<GuardView>,
    /// What drains have cut.
    pub drains: Drains,
}

impl AgentView for View {
    fn pods(&self) -> Vec<proto::Pod> {
        let listed = self.roster.listed.load();
        let beside = self.roster.beside.load();
        let pods = listed.iter().map(|listed| {
            let (state, error) = match &listed.standing {
                Standing::Enrolled => ("enrolled", ""),
                // What control tells of is enrolled at once if it is to be: it is left out on purpose.
                Standing::Outside if !listed.addresses.is_empty() => ("outside", ""),
                Standing::Outside => ("pending", ""),
                Standing::Failed(error) => ("failed", error.as_str()),
            };
            proto::Pod {
                namespace: listed.spec.namespace.to_string(),
                name: listed.spec.name.to_string(),
                addresses: listed.addresses.iter().map(ToString::to_string).collect(),
                state: state.into(),
                error: error.into(),
                warning: beside.get(&listed.spec.to_string()).cloned().unwrap_or_default(),
            }
        });
        pods.collect()
    }

    fn certificates(&self) -> Vec<CertStatus> {
        self.certs.list()
    }

    fn control(&self) -> proto::Control {
        admin::control(&self.status.borrow())
    }

    fn older(&self, pod: &str) -> Result<Vec<proto::OlderConnection>, OlderError> {
        older::list(self, pod)
    }

    fn reset_older(&self, pod: &str) -> Result<proto::OlderReset, OlderError> {
        older::reset(self, pod)
    }

    fn bpf(&self) -> proto::Bpf {
        let Some(kernel) = &self.kernel else {
            return proto::Bpf {
                error: "this agent runs without capture (--explicit)".into(),
                ..proto::Bpf::default()
            };
        };
        match lock(kernel).stats() {
            Ok(stats) => admin::bpf(&stats, &self.config.pin_dir),
            Err(error) => proto::Bpf { error: error.to_string(), ..proto::Bpf::default() },
        }
    }

    fn guard(&self) -> Option<proto::Guard> {
        Some(self.guard.as_ref()?.now(&self.roster))
    }

    fn drains(&self) -> proto::Drains {
        match self.drains.read() {
            Ok(known) => admin::drains(&known),
            Err(error) => proto::Drains { error: error.to_string(), ..proto::Drains::default() },
        }
    }

    fn direct(&self, source: &Workload, _: &Workload, at: SocketAddr) -> bool {
        let local = self.roster.local.load();
        let source = local.iter().find(|(_, uid)| **uid == source.uid);
        let kernel = self.kernel.as_deref();
        source.zip(kernel).is_some_and(|((cookie, _), kernel)| lock(kernel).joins(*cookie, at))
    }

    fn capture(&self) -> &'static str {
        if self.kernel.is_some() { "kernel" } else { "explicit" }
    }

    fn config(&self) -> serde_json::Value {
        self.config.shown()
    }
}
