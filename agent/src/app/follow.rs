//! Following the pods of the node and the state of the mesh: whatever changes, everything that depends on it is brought
//! up to date, in one order.

use super::{AppError, guard::GuardPost, lock};
use crate::{
    flows::REST,
    inbound::{cut_refused, revoke},
    keeper::{KeeperClient, client::Wish},
    kernel::Flows,
    lanes::Shared,
    pods::{Beside, Connected, Enroller, PodSpec},
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::{Notify, mpsc, watch};
use weft_io::{discovery::StatusHandle, lifecycle::ready};
use weft_model::Snapshot;

/// Namespaces vanish without notice; this is how soon it is seen. Failed enrolments are tried again as often.
const LOOK_AFTER: Duration = Duration::from_secs(1);

/// How long a client may take over a handshake that the kernel let it begin under earlier policies: what the kernel waits for
/// its last step by default (`net.ipv4.tcp_synack_retries`), rounded up.
const HANDSHAKE: Duration = Duration::from_secs(64);

/// Follows what changes.
pub struct Follower {
    /// Who acts on it.
    pub enroller: Enroller,
    /// The newest list of pods; none yet before the source has first answered.
    pub listed: watch::Receiver<Option<Vec<PodSpec>>>,
    /// The snapshots and the live connections.
    pub shared: Arc<Shared>,
    /// Rings when the snapshot has changed.
    pub changed: Arc<Notify>,
    /// How discovery fares.
    pub status: StatusHandle,
    /// What guards pods that are not known yet; none where nobody says which pods there are.
    pub guard: Option<GuardPost>,
    /// Whether the programs are attached.
    pub attached: bool,
    /// Dropped when the pods are enrolled for the first time, and their certificates are there.
    pub ready: Option<ready::Guard>,
    /// Up to which of their changes the certificates are kept for a successor.
    pub kept: watch::Receiver<u64>,
    /// Holds the listeners, and is told when they are served.
    pub keeper: Arc<KeeperClient>,
    /// The connections that the kernel joined.
    pub flows: Flows,
    /// What the keeper wants.
    pub wishes: mpsc::Receiver<Wish>,
    /// Which pods lost their network.
    pub connected: Connected,
    /// What else is in their way.
    pub beside: Beside,
}

impl Follower {
    /// Goes on until the keeper wants it to end. Fails when the programs cannot be attached, which nothing can go on
    /// without.
    pub async fn run(&mut self) -> Result<(), AppError> {
        // The sender lives as long as the process.
        let _ = self.listed.wait_for(Option::is_some).await;
        let mut revoked_at = self.shared.store.load().version;
        // Until when connections are judged again, and when that is next due.
        let (mut unsettled_until, mut due) = (None, Instant::now());
        let mut issued = self.shared.certs.changes();
        loop {
            let snapshot = self.shared.store.load();
            let listed = self.listed.borrow_and_update().clone().unwrap_or_default();
            self.enroller.sync(&listed, &snapshot).await;
            // New connections are judged by the new policies from here on; now for those that were there before, and for a
            // while again and again, for those that were being judged by the old ones meanwhile.
            if snapshot.version != revoked_at {
                revoked_at = snapshot.version;
                due = Instant::now();
                unsettled_until = Some(due + HANDSHAKE);
            }
            let now = Instant::now();
            if let Some(end) = unsettled_until
                && now >= due
            {
                self.revoke(&snapshot);
                // It reads every socket of the pods: with many thousands held, it must not be all that is done.
                due = Instant::now() + now.elapsed() * REST;
                unsettled_until = Some(end).filter(|end| now <= *end);
            }
            self.become_ready()?;
            if let Some(guard) = self.guard.as_mut().filter(|_| self.attached) {
                guard.stand(&self.enroller.kernel);
            }
            self.connected.look(self.enroller.pods(), &snapshot);
            let beside = self.beside.look(self.enroller.pods());
            if **self.enroller.roster.beside.load() != *beside {
                self.enroller.roster.beside.store(Arc::new(beside.clone()));
            }
            let is_ready = self.ready.is_none();
            tokio::select! {
                () = self.changed.notified() => {}
                _ = issued.changed(), if !is_ready => {}
                _ = self.kept.changed(), if !is_ready => {}
                _ = self.listed.changed() => {}
                Some(wish) = self.wishes.recv() => match wish {
                    Wish::Drain => return Ok(()),
                    Wish::Regrown => {
                        tracing::warn!("the keeper was gone; another one holds the listeners now");
                        self.enroller.hold_again();
                    }
                    Wish::Alone => {
                        tracing::error!("there is no keeper: a crash of this process would lose connections");
                    }
                },
                () = tokio::time::sleep(LOOK_AFTER) => {}
            }
        }
    }

    fn revoke(&self, snapshot: &Snapshot) {
        // The records first: they say why the connection ended, before its end is seen.
        let closed = revoke(snapshot, &self.shared.telemetry.connections);
        let pods = self.enroller.pods().map(|pod| (pod.cookie(), pod.clone())).collect();
        let cut = cut_refused(snapshot, &self.flows.all(), &pods);
        if closed + cut > 0 {
            tracing::info!(records = closed, direct = cut, "closing what the policies no longer allow");
        }
    }

    /// The programs come when the pods that they are to capture are known, so that no moment is without them. Ready is who
    /// also has the pods' certificates, or knows that there are none: until then connections wait.
    fn become_ready(&mut self) -> Result<(), AppError> {
        if self.ready.is_none() || !self.status.borrow().has_state() {
            return Ok(());
        }
        if !self.attached {
            lock(&self.enroller.kernel).attach()?;
            self.enroller.forget_others();
            self.attached = true;
            // Before it is ready: that lets pods onto the node, which are to find it.
            if let Some(guard) = self.guard.as_mut() {
                guard.stand(&self.enroller.kernel);
            }
        }
        // A successor could get them from nobody, should control be away.
        if !self.shared.certs.is_settled() || *self.kept.borrow() < *self.shared.certs.changes().borrow() {
            return Ok(());
        }
        self.keeper.ready();
        self.ready = None;
        tracing::info!(pods = self.enroller.pods().count(), "ready");
        Ok(())
    }
}
