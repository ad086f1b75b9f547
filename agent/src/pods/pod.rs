//! A pod that the agent serves.

use super::{
    Netns, PodSpec, Sandbox,
    routes::{self, RouteError},
};
use std::{
    io,
    net::IpAddr,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;
use weft_model::{Snapshot, Workload, WorkloadUid};

/// Where a pod's application is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Application {
    /// In the pod's namespace, at the pod's own addresses, from the client's.
    InPod,
    /// Where nothing is captured: on this host, from any address.
    At(IpAddr),
}

/// A pod of this node that is in the mesh: its namespace, and which workload it is.
#[derive(Debug)]
pub struct Pod {
    /// How the source named it.
    pub spec: PodSpec,
    /// Its network namespace.
    pub netns: Netns,
    /// The workload that it is.
    pub workload: WorkloadUid,
    /// Where its application is reached.
    pub application: Application,
    /// Device and inode of the namespace where it is at a path, which may come to stand for another one.
    file: Option<(PathBuf, u64, u64)>,
    /// Whether deliveries stay inside it.
    routed: OnceCell<()>,
    left: CancellationToken,
    gone: CancellationToken,
}

impl Pod {
    /// Opens the namespace of `spec`.
    pub fn open(spec: PodSpec, workload: WorkloadUid) -> io::Result<Self> {
        let (netns, file) = match &spec.netns {
            Sandbox::At(path) => {
                let netns = Netns::open(path)?;
                let (device, inode) = file_of(path)?;
                (netns, Some((path.clone(), device, inode)))
            }
            Sandbox::Held(netns) => (netns.try_clone()?, None),
            Sandbox::Awaited => return Err(io::ErrorKind::NotFound.into()),
        };
        let (routed, left, gone) = <_>::default();
        Ok(Self { spec, netns, workload, application: Application::InPod, file, routed, left, gone })
    }

    /// A workload for which the agent listens in its own namespace, its application being at `ip`.
    pub fn explicit(spec: PodSpec, workload: WorkloadUid, ip: IpAddr) -> io::Result<Self> {
        let netns = Netns::own()?;
        let (file, routed, left, gone) = <_>::default();
        Ok(Self { spec, netns, workload, application: Application::At(ip), file, routed, left, gone })
    }

    /// What the mesh knows of it now; `None` when it is no longer known.
    pub fn workload<'s>(&self, snapshot: &'s Snapshot) -> Option<&'s Arc<Workload>> {
        snapshot.workload(&self.workload)
    }

    /// The number by which the kernel knows its namespace.
    pub fn cookie(&self) -> u64 {
        self.netns.cookie()
    }

    /// Whether its path still leads to its namespace. Of one that the source holds, the source says that it is gone.
    pub fn is_there(&self) -> bool {
        self.file
            .as_ref()
            .is_none_or(|(path, device, inode)| file_of(path).is_ok_and(|file| file == (*device, *inode)))
    }

    /// Makes sure that what is delivered stays inside it, answers included. It costs every later connection of the pod something,
    /// so a pod that gets no deliveries goes without.
    pub async fn keep_deliveries_inside(&self) -> Result<(), RouteError> {
        self.routed.get_or_try_init(|| routes::add(&self.netns)).await.copied()
    }

    /// Nothing is accepted for it from here on; what is open may go on.
    pub fn leave(&self) {
        self.left.cancel();
    }

    /// It does not exist any more: what is open is cut, so that nothing keeps its namespace alive.
    pub fn vanish(&self) {
        self.left.cancel();
        self.gone.cancel();
    }

    /// Waits for [`Pod::leave`] or [`Pod::vanish`].
    pub async fn left(&self) {
        self.left.cancelled().await;
    }

    /// Waits for [`Pod::vanish`].
    pub async fn gone(&self) {
        self.gone.cancelled().await;
    }
}

fn file_of(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = path.metadata()?;
    Ok((metadata.dev(), metadata.ino()))
}
