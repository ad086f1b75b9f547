//! Pods that are known not to take part: they pass the guard.

use super::{Enroller, PodSpec, Sandbox};
use crate::app::lock;
use std::collections::BTreeSet;

impl Enroller {
    /// Lets those pass that are known not to take part by now.
    pub(super) fn pass(&mut self, listed: &[PodSpec]) {
        let done = lock(&self.kernel).pass(&outside(listed));
        self.note_guard(done.err().map(|error| error.to_string()));
    }

    /// Lets no others pass: to be called when those that take part are enrolled.
    pub(super) fn pass_only(&mut self, listed: &[PodSpec]) {
        // Where the source does not say who takes part, nothing is guarded.
        if listed.iter().any(|spec| spec.meshed.is_none()) {
            return;
        }
        let done = lock(&self.kernel).pass_only(&outside(listed));
        if let Err(error) = done {
            self.note_guard(Some(error.to_string()));
        }
    }

    /// It is tried again each second, and said once.
    fn note_guard(&mut self, error: Option<String>) {
        if let Some(error) = &error
            && self.guard_error.as_ref() != Some(error)
        {
            tracing::error!(error, "not every pod that is outside of the mesh is let pass; trying again");
        }
        self.guard_error = error;
    }
}

/// The cookies of the pods that do not take part.
fn outside(listed: &[PodSpec]) -> BTreeSet<u64> {
    let all = listed.iter().filter(|spec| spec.meshed == Some(false));
    all.filter_map(|spec| match &spec.netns {
        Sandbox::Held(netns) => Some(netns.cookie()),
        Sandbox::At(_) | Sandbox::Awaited => None,
    })
    .collect()
}
