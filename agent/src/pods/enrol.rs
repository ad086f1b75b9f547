//! Enrolment: bringing pods into the mesh and letting them go, as the source and the snapshot have it.

mod addresses;
mod listen;
mod older;
mod others;
mod outside;
mod publish;
mod tell;

use super::{
    Netns, Pod, PodSpec, Sandbox,
    listeners::ListenerName,
    older::{Notes, Older},
    plan::{Cause, PodName, Present, plan},
    roster::Roster,
    routes::{self, RouteError},
};
use crate::{
    app::lock,
    keeper::KeeperClient,
    kernel::{Kernel, KernelError, LocalPod},
    lanes::Lanes,
};
use addresses::own_addresses;
use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, TcpListener},
    path::PathBuf,
    sync::{Arc, Mutex},
};
use tell::enrol;
use weft_io::tls::CertManager;
use weft_model::{Name, Snapshot, Workload};

/// Why a pod cannot be enrolled.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// Its namespace cannot be opened.
    #[error("cannot open the network namespace {at}: {source}; is the path in the list of pods right?")]
    Netns {
        /// Which.
        at: String,
        /// Why.
        source: io::Error,
    },
    /// It has no address yet.
    #[error("the pod has no address yet: its CNI plugin is still at work, or has failed")]
    NoAddress,
    /// No listener.
    #[error("cannot listen in the pod ({role}): {source}")]
    Listen {
        /// For what.
        role: &'static str,
        /// Why.
        source: io::Error,
    },
    /// No routing.
    #[error(transparent)]
    Route(#[from] RouteError),
    /// The kernel's side.
    #[error(transparent)]
    Kernel(#[from] KernelError),
}

/// Keeps the node's pods enrolled; the one who writes to the kernel.
pub struct Enroller {
    /// The node's name.
    pub node: String,
    /// The network of its pods.
    pub network: Name,
    /// Where the host's processes are seen, and sysctls may be written.
    pub proc: PathBuf,
    /// What becomes of connections that a pod had before it came into the mesh.
    pub older: Older,
    /// Which connections those are.
    pub notes: Notes,
    /// The kernel's side.
    pub kernel: Arc<Mutex<Kernel>>,
    /// Holds the listeners beyond this process.
    pub keeper: Arc<KeeperClient>,
    /// Where connections are carried.
    pub lanes: Lanes,
    /// The workloads' certificates.
    pub certs: CertManager,
    /// What others may see.
    pub roster: Arc<Roster>,
    /// Listeners that an earlier worker left with the keeper.
    pub inherited: BTreeMap<ListenerName, TcpListener>,
    enrolled: BTreeMap<PodName, Enrolled>,
    /// Pods that were let go, until their last connection has ended.
    leaving: Vec<Arc<Pod>>,
    /// Pods outside of the mesh that have notes of what was open when they left it.
    noted: BTreeMap<PodName, u64>,
    /// What was last complained about, so that each complaint is made once.
    failed: BTreeMap<PodName, String>,
    /// Whether what an earlier agent left was looked through: before, not all pods have had their turn.
    others_forgotten: bool,
    /// Pods that an earlier agent enrolled and this one could not yet, with the cookies of their namespaces.
    waiting: BTreeMap<PodName, u64>,
    /// What the kernel's maps were last brought to: the snapshot's version, and the pods. None after a failure.
    told: Option<(u64, Vec<LocalPod>)>,
    /// Why that failed, if it did.
    map_error: Option<String>,
    /// Why pods outside of the mesh do not pass, where they do not.
    guard_error: Option<String>,
}

/// A pod that is enrolled.
struct Enrolled {
    pod: Arc<Pod>,
    workload: Arc<Workload>,
    /// The workload's, or while those are not known what the namespace has.
    addresses: Vec<IpAddr>,
    listeners: BTreeMap<ListenerName, TcpListener>,
}

impl Enroller {
    /// An enroller that has enrolled nothing yet.
    pub fn new(
        (node, network, proc): (String, Name, PathBuf),
        (older, notes): (Older, Notes),
        kernel: Arc<Mutex<Kernel>>,
        keeper: Arc<KeeperClient>,
        lanes: Lanes,
        certs: CertManager,
        inherited: BTreeMap<ListenerName, TcpListener>,
    ) -> Self {
        let roster = Arc::default();
        let (enrolled, leaving, noted, failed, others_forgotten, waiting, told, map_error, guard_error) =
            <_>::default();
        Self {
            node,
            network,
            proc,
            older,
            notes,
            kernel,
            keeper,
            lanes,
            certs,
            roster,
            inherited,
            enrolled,
            leaving,
            noted,
            failed,
            others_forgotten,
            waiting,
            told,
            map_error,
            guard_error,
        }
    }

    /// The pods that are enrolled.
    pub fn pods(&self) -> impl Iterator<Item = &Arc<Pod>> {
        self.enrolled.values().map(|e| &e.pod)
    }

    /// Makes the enrolled pods those that are listed and meshed, and the kernel's maps those of `snapshot`. What fails
    /// for one pod is logged and tried again the next time; the others do not notice.
    pub async fn sync(&mut self, listed: &[PodSpec], snapshot: &Snapshot) {
        let present = self.enrolled.iter().map(|(name, e)| {
            let (spec, addresses) = (e.pod.spec.clone(), e.addresses.clone());
            let always_encrypt = e.workload.always_encrypt;
            (name.clone(), Present { spec, addresses, always_encrypt, is_there: e.pod.is_there() })
        });
        let plan = plan(listed, &present.collect(), snapshot, &self.node);
        // First: a pod that leaves the mesh is not to wait meanwhile as if nobody knew it.
        self.pass(listed);
        for (name, cause) in plan.leave {
            self.leave(&name, cause).await;
        }
        self.let_go_of_unwanted(&plan.enter);
        for (spec, workload) in plan.enter {
            let name = (spec.namespace.clone(), spec.name.clone());
            match self.enter(spec.clone(), workload).await {
                Ok(()) => drop(self.failed.remove(&name)),
                Err(error) => {
                    let error = error.to_string();
                    if self.failed.get(&name) != Some(&error) {
                        tracing::error!(pod = %spec, error, "the pod cannot be enrolled; trying again");
                        self.failed.insert(name, error);
                    }
                }
            }
            // Each pod takes the kernel a while: probes and people need not wait for all of them.
            tokio::task::yield_now().await;
        }
        self.pass_only(listed);
        self.failed.retain(|name, _| listed.iter().any(|s| (&s.namespace, &s.name) == (&name.0, &name.1)));
        self.tell_kernel(snapshot);
        self.follow_identities(snapshot);
        self.publish(listed, snapshot);
        self.forget_gone(listed);
        self.tidy().await;
    }

    async fn enter(&mut self, spec: PodSpec, workload: Arc<Workload>) -> Result<(), EnrolError> {
        let name = (spec.namespace.clone(), spec.name.clone());
        if let Some(known) = self.enrolled.get_mut(&name) {
            if !workload.addresses.is_empty() {
                known.addresses.clone_from(&workload.addresses);
            }
            known.workload = workload;
            return enrol(&mut lock(&self.kernel), known);
        }
        let at = spec.netns.to_string();
        let pod = Pod::open(spec, workload.uid.clone());
        let pod = Arc::new(pod.map_err(|source| EnrolError::Netns { at, source })?);
        let is_known = lock(&self.kernel).is_enrolled(pod.cookie());
        if is_known {
            self.waiting.insert(name.clone(), pod.cookie());
        }
        let addresses = match &workload.addresses[..] {
            // Control hears of them from the kubelet, when containers may run already.
            [] => own_addresses(&pod.netns),
            known => known.to_vec(),
        };
        if addresses.is_empty() {
            return Err(EnrolError::NoAddress);
        }
        routes::prepare(&pod.netns, &self.proc)?;
        let listeners = self.listen(&pod)?;
        let entry = Enrolled { pod: pod.clone(), workload, addresses, listeners };
        let entered = match self.serve(&entry).await {
            Ok(()) => enrol(&mut lock(&self.kernel), &entry),
            Err(error) => Err(error),
        };
        if let Err(error) = entered {
            self.give_up(entry, is_known);
            return Err(error);
        }
        tracing::info!(pod = %pod.spec, cookie = pod.cookie(), "enrolled");
        if !is_known {
            self.note_joined(&pod);
        }
        self.waiting.remove(&name);
        self.enrolled.insert(name, entry);
        Ok(())
    }

    /// Takes back what was done for a pod that could not be enrolled: the kernel must not lead connections to where
    /// nobody accepts, nor the keeper's sockets keep the namespace of a pod that is gone.
    ///
    /// A pod that an earlier worker had enrolled stays so, its connections waiting for the next try: let go, it would be
    /// open to everybody meanwhile.
    fn give_up(&mut self, entry: Enrolled, is_known: bool) {
        let Enrolled { pod, listeners, .. } = entry;
        pod.leave();
        if self.enrolled.values().any(|e| e.pod.cookie() == pod.cookie()) {
            // Listed under a second name; what is there belongs to the first.
            return;
        }
        if is_known {
            self.inherited.extend(listeners);
            return;
        }
        // The maps forget what they said of it, and it may come back at once.
        self.told = None;
        if let Err(error) = lock(&self.kernel).leave(pod.cookie()) {
            tracing::warn!(pod = %pod.spec, %error, "the kernel does not let go of a pod that could not be enrolled");
        }
        for listener in listeners.keys() {
            self.keeper.release(listener);
        }
    }

    async fn leave(&mut self, name: &PodName, cause: Cause) {
        let Some(Enrolled { pod, addresses, listeners, .. }) = self.enrolled.remove(name) else { return };
        // The maps forget what they said of it, and it may come back at once.
        self.told = None;
        if let Err(error) = lock(&self.kernel).leave(pod.cookie()) {
            tracing::error!(pod = %pod.spec, %error, "the kernel does not let the pod go");
        }
        for listener in listeners.keys() {
            self.keeper.release(listener);
        }
        match cause {
            Cause::Vanished => {
                tracing::warn!(pod = %pod.spec, netns = %pod.spec.netns,
                    "the pod's network namespace has vanished; its connections are cut");
                pod.vanish();
                self.notes.forget(pod.cookie());
            }
            Cause::Unlisted => {
                tracing::info!(pod = %pod.spec, "the pod has left the node; its connections are cut");
                pod.vanish();
                self.notes.forget(pod.cookie());
            }
            Cause::Unmeshed => {
                tracing::info!(pod = %pod.spec, "the pod has left the mesh; what is open goes on");
                self.note_left(name, &pod);
                pod.leave();
                self.leaving.push(pod);
            }
        }
        self.lanes.forget(&addresses).await;
    }

    /// Undoes the routing of pods that have left, as soon as no connection needs it any more.
    async fn tidy(&mut self) {
        let (done, leaving) = std::mem::take(&mut self.leaving)
            .into_iter()
            .partition::<Vec<_>, _>(|pod| Arc::strong_count(pod) == 1);
        self.leaving = leaving;
        for pod in done {
            let is_back = self.enrolled.values().any(|e| e.pod.cookie() == pod.cookie());
            if !is_back && let Err(error) = routes::remove(&pod.netns).await {
                tracing::warn!(pod = %pod.spec, %error, "the pod's routing cannot be put back");
            }
        }
    }
}
