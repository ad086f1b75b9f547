//! Who leads, of several replicas: by a Lease. Whoever leads writes what must be written once; all of them serve.

use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
    jiff::Timestamp,
};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The Lease's name.
const NAME: &str = "weft-control";
/// A leader that is not heard of for so long has gone.
const DURATION: Duration = Duration::from_secs(15);
/// A leader that could not renew for so long leads no more: shorter than `DURATION`, so that there are never two.
const DEADLINE: Duration = Duration::from_secs(10);
/// How often it is renewed, or looked at.
const TICK: Duration = Duration::from_secs(3);
/// How long one request may take.
const PATIENCE: Duration = Duration::from_secs(4);

/// One replica's part in the election.
pub(crate) struct Elector {
    leases: Api<Lease>,
    namespace: String,
    me: String,
    seen: Seen,
}

/// What of the Lease was last seen, and since when it is so by this process's own clock: clocks of others do not count.
#[derive(Debug, Default)]
struct Seen(Option<(LeaseSpec, Instant)>);

/// What to do about the Lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// It is free, or its holder is gone.
    Take,
    /// It is one's own.
    Renew,
    /// It is another's.
    Wait,
}

impl Seen {
    fn decide(&mut self, lease: &LeaseSpec, me: &str, now: Instant) -> Step {
        match lease.holder_identity.as_deref() {
            None | Some("") => return Step::Take,
            Some(holder) if holder == me => return Step::Renew,
            Some(_) => {}
        }
        let since = match &self.0 {
            Some((seen, since)) if seen == lease => *since,
            _ => {
                self.0 = Some((lease.clone(), now));
                now
            }
        };
        let seconds = lease.lease_duration_seconds.and_then(|s| u64::try_from(s).ok());
        let life = seconds.map_or(DURATION, Duration::from_secs);
        if now.duration_since(since) > life { Step::Take } else { Step::Wait }
    }
}

impl Elector {
    /// The part of the replica that is called `me`; no two may have the same name.
    pub(crate) fn new(client: Client, namespace: &str, me: String) -> Self {
        let leases = Api::namespaced(client, namespace);
        Self { leases, namespace: namespace.to_owned(), me, seen: Seen::default() }
    }

    /// Takes part until `shutdown`, and then gives the Lease back.
    pub(crate) async fn run(mut self, lead: watch::Sender<bool>, shutdown: CancellationToken) {
        let mut renewed = Instant::now();
        let mut complaint = String::new();
        loop {
            let begun = Instant::now();
            let leads = *lead.borrow();
            match tokio::time::timeout(PATIENCE, self.turn()).await {
                Ok(Ok(now)) => {
                    complaint.clear();
                    renewed = begun;
                    if now != leads {
                        tracing::info!(me = self.me, leads = now, "leader of the control plane");
                    }
                    lead.send_replace(now);
                }
                failed => {
                    let error = match failed {
                        Ok(Err(error)) => error.to_string(),
                        _ => format!("no answer within {PATIENCE:?}"),
                    };
                    if error != complaint {
                        tracing::warn!(
                            error,
                            namespace = self.namespace,
                            "the Lease {NAME} cannot be had; control's account needs the verbs get, create and update for leases \
                             of coordination.k8s.io there"
                        );
                        complaint = error;
                    }
                    if leads && renewed.elapsed() >= DEADLINE {
                        tracing::warn!("leads no more");
                        lead.send_replace(false);
                    }
                }
            }
            tokio::select! {
                () = tokio::time::sleep(TICK) => {}
                () = shutdown.cancelled() => break,
            }
        }
        if lead.send_replace(false) {
            // Without it the others wait for a while, and no more.
            let _ = tokio::time::timeout(PATIENCE, self.give_back()).await;
        }
    }

    /// Looks at the Lease and does what is to be done; answers whether it is one's own.
    async fn turn(&mut self) -> kube::Result<bool> {
        let Some(lease) = self.leases.get_opt(NAME).await? else {
            let metadata = ObjectMeta { name: Some(NAME.into()), ..ObjectMeta::default() };
            let lease = Lease { metadata, spec: Some(self.spec(None)) };
            return won(self.leases.create(&PostParams::default(), &lease).await);
        };
        let old = lease.spec.clone().unwrap_or_default();
        let spec = match self.seen.decide(&old, &self.me, Instant::now()) {
            Step::Wait => return Ok(false),
            Step::Take => self.spec(Some(&old)),
            Step::Renew => LeaseSpec { renew_time: Some(MicroTime(Timestamp::now())), ..old },
        };
        // The resource version goes along: of two that take it at once, one is refused.
        let lease = Lease { spec: Some(spec), ..lease };
        won(self.leases.replace(NAME, &PostParams::default(), &lease).await)
    }

    fn spec(&self, old: Option<&LeaseSpec>) -> LeaseSpec {
        let now = MicroTime(Timestamp::now());
        LeaseSpec {
            holder_identity: Some(self.me.clone()),
            lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
            acquire_time: Some(now.clone()),
            renew_time: Some(now),
            lease_transitions: Some(old.and_then(|o| o.lease_transitions).map_or(0, |n| n.saturating_add(1))),
            ..LeaseSpec::default()
        }
    }

    async fn give_back(&mut self) -> kube::Result<()> {
        if let Some(mut lease) = self.leases.get_opt(NAME).await?
            && let Some(spec) = &mut lease.spec
            && spec.holder_identity.as_ref() == Some(&self.me)
        {
            spec.holder_identity = None;
            self.leases.replace(NAME, &PostParams::default(), &lease).await?;
        }
        Ok(())
    }
}

/// Whether a write went through; that somebody else was faster is no error.
fn won(written: kube::Result<Lease>) -> kube::Result<bool> {
    match written {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(holder: &str, transitions: i32) -> LeaseSpec {
        LeaseSpec {
            holder_identity: Some(holder.into()),
            lease_duration_seconds: Some(15),
            lease_transitions: Some(transitions),
            ..LeaseSpec::default()
        }
    }

    #[test]
    fn a_lease_is_taken_when_it_is_free_or_stands_still_for_its_whole_life() {
        let (mut seen, start) = (Seen::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(seen.decide(&LeaseSpec::default(), "me", start), Step::Take);
        assert_eq!(seen.decide(&lease("", 0), "me", start), Step::Take);
        assert_eq!(seen.decide(&lease("me", 0), "me", start), Step::Renew);
        // However old it claims to be: only what was watched counts.
        assert_eq!(seen.decide(&lease("other", 0), "me", at(100)), Step::Wait);
        assert_eq!(seen.decide(&lease("other", 0), "me", at(114)), Step::Wait);
        assert_eq!(seen.decide(&lease("other", 1), "me", at(115)), Step::Wait, "it moved");
        assert_eq!(seen.decide(&lease("other", 1), "me", at(129)), Step::Wait);
        assert_eq!(seen.decide(&lease("other", 1), "me", at(131)), Step::Take);
    }
}
