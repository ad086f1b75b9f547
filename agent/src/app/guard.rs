//! Guarding the node's pods until each is known.

mod view;

pub use view::GuardView;

use super::lock;
use crate::{
    config::Guard,
    kernel::{Guarded, Kernel},
    pods::source::kube::NodePaths,
};
use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

/// Attaches the guard, or lets go of it, once the pods that run already are classified; looks again each time, since the
/// kubelet's cgroup may be made anew.
pub struct GuardPost {
    paths: NodePaths,
    wanted: Guard,
    /// Whether this agent's programs are attached.
    done: bool,
    standing: Arc<Mutex<Standing>>,
}

/// What has become of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Where it is attached.
    pub cgroup: Option<PathBuf>,
    /// Why it is not.
    pub error: Option<String>,
}

impl GuardPost {
    pub(super) fn new(paths: NodePaths, wanted: Guard) -> Self {
        Self { paths, wanted, done: false, standing: Arc::default() }
    }

    /// To be called when every pod that is known has been classified.
    pub(super) fn stand(&mut self, kernel: &Mutex<Kernel>) {
        let guarded = match self.wanted {
            Guard::Mesh => Guarded::Mesh,
            Guard::All => Guarded::All,
            Guard::Off => return self.unguard(kernel),
        };
        let now = match self.keep(kernel, guarded) {
            Ok(cgroup) => Standing { cgroup: Some(cgroup), error: None },
            Err(error) => Standing { cgroup: None, error: Some(error) },
        };
        let before = std::mem::replace(&mut *locked(&self.standing), now.clone());
        match (&now.cgroup, &now.error) {
            (Some(cgroup), _) if before.cgroup.is_none() => {
                tracing::info!(?guarded, cgroup = %cgroup.display(), "pods that start are guarded until they are known");
            }
            (_, Some(error)) if before.error.as_ref() != Some(error) => {
                tracing::error!(error, "pods that start are not guarded; trying again");
            }
            _ => {}
        }
    }

    fn keep(&mut self, kernel: &Mutex<Kernel>, guarded: Guarded) -> Result<PathBuf, String> {
        let kubepods = self.paths.kubepods().map_err(|error| error.to_string())?;
        let mut kernel = lock(kernel);
        if self.done {
            if kernel.is_guarding(&kubepods) {
                return Ok(kubepods);
            }
            tracing::warn!(cgroup = %kubepods.display(), "the kubelet's cgroup is another one now; attaching the guard there");
        }
        kernel.guard(&kubepods, guarded).map_err(|error| error.to_string())?;
        self.done = true;
        Ok(kubepods)
    }

    fn unguard(&mut self, kernel: &Mutex<Kernel>) {
        if self.done {
            return;
        }
        let error = lock(kernel).unguard().err().map(|error| error.to_string());
        self.done = error.is_none();
        let before = std::mem::replace(&mut locked(&self.standing).error, error.clone());
        match error {
            Some(error) if before.as_ref() != Some(&error) => {
                tracing::error!(error, "the guard of an earlier agent cannot be taken off; trying again");
            }
            None => tracing::info!("pods that start are not guarded, as the configuration has it"),
            _ => {}
        }
    }
}

fn locked(standing: &Mutex<Standing>) -> std::sync::MutexGuard<'_, Standing> {
    standing.lock().unwrap_or_else(PoisonError::into_inner)
}
