//! A pod's listeners: opened in it or inherited, held by the keeper, served by the lanes.

use super::{EnrolError, Enrolled, Enroller};
use crate::{
    lanes::Serve,
    pods::{
        Pod,
        listeners::{self, ListenerName, Role},
    },
};
use std::{collections::BTreeMap, net::TcpListener, os::fd::AsFd};

impl Enroller {
    /// Gives every listener to a keeper that has just taken over.
    pub fn hold_again(&self) {
        for (name, listener) in self.enrolled.values().flat_map(|e| &e.listeners) {
            self.keeper.hold(name, listener.as_fd());
        }
    }

    /// Has the keeper hold the pod's listeners and the lanes accept there.
    pub(super) async fn serve(&self, entry: &Enrolled) -> Result<(), EnrolError> {
        for (listener, socket) in &entry.listeners {
            let failed = |source| EnrolError::Listen { role: listener.role.as_str(), source };
            let serve = Serve {
                pod: entry.pod.clone(),
                role: listener.role,
                listener: socket.try_clone().map_err(failed)?,
            };
            self.keeper.hold(listener, socket.as_fd());
            self.lanes.serve(listener.index, serve).await;
        }
        Ok(())
    }

    /// The pod's listeners: those that an earlier worker left, and new ones for the rest.
    pub(super) fn listen(&mut self, pod: &Pod) -> Result<BTreeMap<ListenerName, TcpListener>, EnrolError> {
        let cookie = pod.cookie();
        let inherited = std::mem::take(&mut self.inherited).into_iter();
        let (mut all, others): (BTreeMap<_, _>, _) = inherited.partition(|(name, _)| name.cookie == cookie);
        self.inherited = others;
        let mut opened = BTreeMap::new();
        for role in Role::IN_PODS {
            for index in 0..self.lanes.count() {
                let name = ListenerName { cookie, role, index };
                if all.contains_key(&name) {
                    continue;
                }
                let beside = all.values().chain(opened.values()).next();
                match listeners::open(&pod.netns, &name, beside) {
                    Ok(listener) => drop(opened.insert(name, listener)),
                    Err(source) => {
                        self.inherited.extend(all);
                        return Err(EnrolError::Listen { role: role.as_str(), source });
                    }
                }
            }
        }
        all.append(&mut opened);
        Ok(all)
    }
}
