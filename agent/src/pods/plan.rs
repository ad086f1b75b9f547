//! Who enters the mesh and who leaves it: a pure comparison of what should be with what is.

use super::{PodSpec, Sandbox};
use std::{collections::BTreeMap, net::IpAddr, sync::Arc};
use weft_model::{Name, Snapshot, Workload};

/// A pod's name: its namespace and its own.
pub type PodName = (Name, Name);

/// What is known of a pod that is enrolled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Present {
    /// How the source named it.
    pub spec: PodSpec,
    /// The addresses that the kernel was told.
    pub addresses: Vec<IpAddr>,
    /// Whether the kernel was told to leave all of its connections to the agent.
    pub always_encrypt: bool,
    /// Whether its namespace still exists.
    pub is_there: bool,
}

/// Why a pod leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The source no longer lists it, or lists another namespace for it.
    Unlisted,
    /// It is no longer meshed, or no longer on this node.
    Unmeshed,
    /// Its network namespace has vanished.
    Vanished,
}

/// What is to be done.
#[derive(Debug, Default, PartialEq)]
pub struct Plan {
    /// These leave; carried out first, as a pod may leave and enter again.
    pub leave: Vec<(PodName, Cause)>,
    /// These enter, or are brought up to date.
    pub enter: Vec<(PodSpec, Arc<Workload>)>,
}

/// Compares what is listed and meshed with what is enrolled.
pub fn plan(
    listed: &[PodSpec],
    enrolled: &BTreeMap<PodName, Present>,
    snapshot: &Snapshot,
    node: &str,
) -> Plan {
    let mut plan = Plan::default();
    let mut wanted = BTreeMap::new();
    for spec in listed {
        let workload = snapshot.workload_of_pod(&spec.namespace, &spec.name);
        let workload = workload.filter(|w| {
            w.is_meshed() && &*w.node == node && spec.meshed != Some(false) && spec.netns != Sandbox::Awaited
        });
        wanted.insert((spec.namespace.clone(), spec.name.clone()), (spec, workload));
    }
    for (name, present) in enrolled {
        let cause = match wanted.get(name) {
            _ if !present.is_there => Cause::Vanished,
            None => Cause::Unlisted,
            Some((spec, _)) if spec.netns != present.spec.netns => Cause::Unlisted,
            Some((_, None)) => Cause::Unmeshed,
            Some((_, Some(workload))) => {
                // None yet: those that the namespace has go on to hold.
                let same = workload.addresses.is_empty() || workload.addresses == present.addresses;
                if !same || workload.always_encrypt != present.always_encrypt {
                    plan.enter.push((present.spec.clone(), Arc::clone(workload)));
                }
                continue;
            }
        };
        plan.leave.push((name.clone(), cause));
    }
    for (name, (spec, workload)) in wanted {
        let stays = enrolled.contains_key(&name) && !plan.leave.iter().any(|(gone, _)| *gone == name);
        if let (false, Some(workload)) = (stays, workload) {
            plan.enter.push((spec.clone(), workload.clone()));
        }
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::*;
    use weft_model::{Delta, SnapshotStore, workload::Tunnel};

    fn spec(name: &str) -> PodSpec {
        PodSpec::new("shop", name, &*format!("/run/netns/{name}"))
    }

    fn workload(name: &str, node: &str, tunnel: Tunnel) -> Delta {
        let mut w = Workload::new(format!("k//Pod/shop/{name}"), "shop", name, name);
        (w.node, w.tunnel) = (node.into(), tunnel);
        w.addresses = vec!["10.0.0.1".parse().unwrap()];
        Delta::Workload(Box::new(w))
    }

    fn present(name: &str) -> (PodName, Present) {
        let addresses = vec!["10.0.0.1".parse().unwrap()];
        (
            ("shop".into(), name.into()),
            Present { spec: spec(name), addresses, always_encrypt: false, is_there: true },
        )
    }

    #[test]
    fn listed_meshed_and_local_pods_enter() {
        let store = SnapshotStore::default();
        store.apply(vec![
            workload("web", "n1", Tunnel::Hbone),
            workload("far", "n2", Tunnel::Hbone),
            workload("plain", "n1", Tunnel::None),
            workload("unlisted", "n1", Tunnel::Hbone),
        ]);
        let listed = [spec("web"), spec("far"), spec("plain"), spec("unknown")];
        let plan = plan(&listed, &BTreeMap::new(), &store.load(), "n1");
        assert_eq!(plan.leave, []);
        assert_eq!(plan.enter.iter().map(|(s, _)| &*s.name).collect::<Vec<_>>(), ["web"]);
    }

    #[test]
    fn each_cause_to_leave() {
        let store = SnapshotStore::default();
        store.apply(vec![workload("stays", "n1", Tunnel::Hbone), workload("plain", "n1", Tunnel::None)]);
        let mut enrolled: BTreeMap<_, _> =
            ["stays", "plain", "unlisted", "vanished"].into_iter().map(present).collect();
        enrolled.get_mut(&present("vanished").0).unwrap().is_there = false;
        let listed = [spec("stays"), spec("plain"), spec("vanished")];
        let plan = plan(&listed, &enrolled, &store.load(), "n1");
        let name = |name: &str| present(name).0;
        assert_eq!(
            plan.leave,
            [
                (name("plain"), Cause::Unmeshed),
                (name("unlisted"), Cause::Unlisted),
                (name("vanished"), Cause::Vanished)
            ]
        );
        assert_eq!(plan.enter, []);
    }

    #[test]
    fn a_new_namespace_under_an_old_name_leaves_and_enters() {
        let store = SnapshotStore::default();
        store.apply(vec![workload("web", "n1", Tunnel::Hbone)]);
        let enrolled = BTreeMap::from([present("web")]);
        let listed = [PodSpec { netns: "/run/netns/web-2".into(), ..spec("web") }];
        let plan = plan(&listed, &enrolled, &store.load(), "n1");
        assert_eq!((plan.leave.len(), plan.enter.len()), (1, 1));
    }
}
