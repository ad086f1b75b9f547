//! What follows from who is enrolled: what others are shown, and which certificates are asked for.

use super::{Enrolled, Enroller};
use crate::pods::{
    PodSpec,
    roster::{Listed, Standing},
};
use std::{collections::BTreeSet, sync::Arc};
use weft_model::{Identity, Snapshot};

impl Enroller {
    /// Shows what has become of each pod.
    pub(super) fn publish(&self, listed: &[PodSpec], snapshot: &Snapshot) {
        let local = self.enrolled.values().map(|e| (e.pod.cookie(), e.pod.workload.clone()));
        self.roster.local.store(Arc::new(local.collect()));
        let listed = listed.iter().map(|spec| {
            let name = (spec.namespace.clone(), spec.name.clone());
            let workload = snapshot.workload_of_pod(&spec.namespace, &spec.name);
            Listed {
                spec: spec.clone(),
                addresses: workload.map(|w| w.addresses.clone()).unwrap_or_default(),
                standing: match (self.failed.get(&name), self.enrolled.contains_key(&name)) {
                    (Some(error), _) => Standing::Failed(error.clone()),
                    (None, true) => Standing::Enrolled,
                    (None, false) => Standing::Outside,
                },
            }
        });
        self.roster.listed.store(Arc::new(listed.collect()));
    }

    /// Asks for the certificates of the pods' identities as they are now, and drops all others: also those that a
    /// connection asked for while its pod was leaving. What an earlier worker left stays until all pods had their turn; one
    /// that could not be enrolled keeps its own for the next try, when the authority may be away.
    pub(super) fn follow_identities(&self, snapshot: &Snapshot) {
        let now = |e: &Enrolled| e.pod.workload(snapshot).unwrap_or(&e.workload).identity();
        let failed =
            self.failed.keys().filter_map(|(namespace, name)| snapshot.workload_of_pod(namespace, name));
        let failed = failed.filter(|w| w.is_meshed() && *w.node == *self.node).map(|w| w.identity());
        let wanted: BTreeSet<Identity> = self.enrolled.values().map(now).chain(failed).collect();
        wanted.iter().for_each(|identity| self.certs.prefetch(identity));
        if self.others_forgotten {
            self.certs.retain(|identity| wanted.contains(identity));
        }
    }
}
