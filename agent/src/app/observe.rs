//! What is watched besides the connections that the lanes carry: the kernel's own, and the figures behind the metrics.

use super::{AppError, lock};
use crate::{
    admin::{Admin, expire_series, gauges},
    flows::{KernelFlows, LocalPods},
    kernel::{self, Kernel},
};
use std::sync::Mutex;
use tokio::task::JoinSet;

/// Starts watching; it ends when `tasks` is dropped. One process of a node at a time reads the kernel's events, so another
/// one that takes over begins then.
pub fn start(
    tasks: &mut JoinSet<()>,
    admin: &Admin,
    kernel: Option<&Mutex<Kernel>>,
    pods: LocalPods,
) -> Result<(), AppError> {
    gauges(&admin.telemetry.metrics, admin.agent.clone());
    tasks.spawn(expire_series(admin.telemetry.clone(), admin.snapshots.clone()));
    let Some(kernel) = kernel else { return Ok(()) };
    #[cfg(feature = "kernel-log")]
    tasks.spawn(lock(kernel).log()?);
    let (events, live) = {
        let kernel = lock(kernel);
        (kernel.events()?, kernel.flows()?)
    };
    // No worker: the records of this thread have a shard of their own.
    let records = admin.telemetry.worker(usize::MAX);
    let flows = KernelFlows::new(records, admin.snapshots.clone(), pods, kernel::now());
    tasks.spawn(async move {
        if let Err(error) = flows.run(events, live).await {
            tracing::error!(%error, "the kernel's events cannot be read; direct connections are not recorded");
        }
    });
    Ok(())
}
