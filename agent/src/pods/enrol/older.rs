//! What a pod has open when it comes into the mesh or leaves it.

use super::{Enroller, PodName, PodSpec};
use crate::pods::{
    Pod,
    older::{Change, Older, Open, open, reset},
};

/// Connections that are named one by one; more are only counted.
const NAMED: usize = 20;

impl Enroller {
    /// Notes the connections that the pod had before, tells of them, and resets them where that is wished. To be called when it
    /// is enrolled: what is opened from then on is the mesh's.
    pub(super) fn note_joined(&mut self, pod: &Pod) {
        let Some(open) = self.note(pod, Change::Joined) else { return };
        for one in open.iter().take(NAMED) {
            tracing::info!(pod = %pod.spec, local = %one.local, remote = %one.remote, "open since before the pod came into the mesh");
        }
        let count = open.len();
        if self.older == Older::Keep {
            tracing::warn!(pod = %pod.spec, connections = count,
                "connections from before go on as they were, neither encrypted nor judged; see `weft-agent connections --older`, \
                 and to be rid of them add `--reset --pod {}`, or say `olderConnections: reset`", pod.spec);
            return;
        }
        match reset(&pod.netns, &open) {
            Ok(done) => {
                tracing::info!(pod = %pod.spec, connections = count, reset = done, "connections from before are reset")
            }
            Err(error) => tracing::error!(pod = %pod.spec, %error, "connections from before cannot be reset"),
        }
    }

    /// Notes the connections that the pod has of its own while it leaves; those that the agent carries are listed as such.
    pub(super) fn note_left(&mut self, name: &PodName, pod: &Pod) {
        if let Some(open) = self.note(pod, Change::Left) {
            tracing::info!(pod = %pod.spec, connections = open.len(), "what the pod has open with others goes on, and no policy judges it any more");
            self.noted.insert(name.clone(), pod.cookie());
        }
    }

    /// Writes down what is open; none where that is nothing, or cannot be told.
    fn note(&self, pod: &Pod, change: Change) -> Option<Vec<Open>> {
        let open = open(&pod.netns).inspect_err(|error| {
            tracing::warn!(pod = %pod.spec, %error, "cannot tell which connections the pod had before it {}", change.as_str());
        });
        let open = open.ok()?;
        if let Err(error) = self.notes.write(pod.cookie(), change, &open) {
            tracing::warn!(pod = %pod.spec, %error, "older connections are not listed: they cannot be noted");
        }
        (!open.is_empty()).then_some(open)
    }

    /// Drops the notes of pods that are not on the node any more.
    pub(super) fn forget_gone(&mut self, listed: &[PodSpec]) {
        let (notes, enrolled) = (&self.notes, &self.enrolled);
        self.noted.retain(|name, cookie| {
            // What is enrolled again under the same cookie has notes of its own.
            let is_back = enrolled.values().any(|e| e.pod.cookie() == *cookie);
            let stays = listed.iter().any(|spec| (&spec.namespace, &spec.name) == (&name.0, &name.1));
            if !stays && !is_back {
                notes.forget(*cookie);
            }
            stays && !is_back
        });
    }
}
