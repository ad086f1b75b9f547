//! What an earlier agent left behind. Pods that are no longer to be carried are let go; those that are, and cannot be yet, stay
//! as they were: their connections wait, and let go they would be open to everybody.

use super::{Enroller, PodSpec};
use crate::app::lock;
use std::{mem, sync::Arc};
use weft_model::Workload;

impl Enroller {
    /// Lets go of what an earlier agent enrolled and this one does not want: to be called once the state of the mesh is
    /// known.
    pub fn forget_others(&mut self) {
        let enrolled = lock(&self.kernel).enrolled();
        match enrolled {
            Ok(cookies) => {
                for cookie in cookies {
                    if !self.wants(cookie) {
                        self.let_go(cookie);
                    }
                }
            }
            Err(error) => tracing::warn!(%error, "cannot tell which pods an earlier agent enrolled"),
        }
        self.release_unwanted();
        self.others_forgotten = true;
    }

    /// Lets go of pods that waited to be enrolled again and are not wanted any more, `wanted` being who is.
    pub(super) fn let_go_of_unwanted(&mut self, wanted: &[(PodSpec, Arc<Workload>)]) {
        let is_wanted = |namespace: &str, name: &str| {
            wanted.iter().any(|(spec, _)| (&*spec.namespace, &*spec.name) == (namespace, name))
        };
        let (stay, go) = mem::take(&mut self.waiting)
            .into_iter()
            .partition(|((namespace, name), _)| is_wanted(namespace, name));
        self.waiting = stay;
        let go: Vec<u64> = go.into_values().filter(|cookie| !self.wants(*cookie)).collect();
        if go.is_empty() {
            return;
        }
        go.into_iter().for_each(|cookie| self.let_go(cookie));
        self.release_unwanted();
    }

    fn wants(&self, cookie: u64) -> bool {
        self.enrolled.values().any(|e| e.pod.cookie() == cookie)
            || self.waiting.values().any(|c| *c == cookie)
    }

    fn let_go(&mut self, cookie: u64) {
        // The maps forget what they said of it.
        self.told = None;
        if let Err(error) = lock(&self.kernel).leave(cookie) {
            tracing::warn!(cookie, %error, "a pod of an earlier agent cannot be let go");
        }
    }

    /// Has the keeper close the listeners of pods that nobody wants.
    fn release_unwanted(&mut self) {
        for (name, listener) in mem::take(&mut self.inherited) {
            if self.wants(name.cookie) {
                self.inherited.insert(name, listener);
            } else {
                self.keeper.release(&name);
            }
        }
    }
}
