//! Guarding the node's pods until each is known.

use super::lock;
use crate::{
    kernel::{Guarded, Kernel},
    pods::source::kube::NodePaths,
};
use std::sync::Mutex;

/// Attaches the guard, or lets go of it, once the pods that run already are classified; tries again where it cannot yet.
pub struct GuardPost {
    paths: NodePaths,
    /// `None` for no guard.
    wanted: Option<Guarded>,
    done: bool,
    complaint: Option<String>,
}

impl GuardPost {
    pub(super) fn new(paths: NodePaths, wanted: Option<Guarded>) -> Self {
        Self { paths, wanted, done: false, complaint: None }
    }

    /// To be called when every pod that is known has been classified.
    pub(super) fn stand(&mut self, kernel: &Mutex<Kernel>) {
        if self.done {
            return;
        }
        match self.attach(kernel) {
            Ok(()) => {
                tracing::info!(guarded = ?self.wanted, "pods that start are guarded until they are known");
                (self.done, self.complaint) = (true, None);
            }
            Err(error) if self.complaint.as_ref() != Some(&error) => {
                tracing::error!(error, "pods that start are not guarded; trying again");
                self.complaint = Some(error);
            }
            Err(_) => {}
        }
    }

    fn attach(&self, kernel: &Mutex<Kernel>) -> Result<(), String> {
        let Some(guarded) = self.wanted else {
            return lock(kernel).unguard().map_err(|error| error.to_string());
        };
        let kubepods = self.paths.kubepods().map_err(|error| error.to_string())?;
        lock(kernel).guard(&kubepods, guarded).map_err(|error| error.to_string())
    }
}
