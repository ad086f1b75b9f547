//! May this connection reach that workload?

use crate::{PolicyKey, Reason, Snapshot, Workload, policy::Connection};

/// The answer, and what led to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Why it is refused; `None` when it is allowed.
    pub refused: Option<Reason>,
    /// The policy that decided: the DENY or ALLOW that matched. `None` when no policy holds for the workload, or when
    /// ALLOW policies hold and none matched.
    pub policy: Option<PolicyKey>,
    /// The first policy in dry run that matched: it changes nothing, but is told.
    pub dry_run: Option<PolicyKey>,
}

impl Verdict {
    /// Whether the connection may go on.
    pub fn is_allowed(&self) -> bool {
        self.refused.is_none()
    }
}

/// Decides whether `c` may reach `workload`: DENY first, then ALLOW; without any ALLOW policy all is allowed that no DENY
/// refused (Istio's AuthorizationPolicy semantics; global, namespace and selected policies count alike).
pub fn inbound(snapshot: &Snapshot, workload: &Workload, c: &Connection<'_>) -> Verdict {
    let sets = || snapshot.policy_sets(workload).into_iter().flatten();
    let key = |p: &std::sync::Arc<crate::Policy>| p.key.clone();
    let dry_run = sets().find_map(|s| s.dry_run.first_match(c)).map(key);
    if let Some(policy) = sets().find_map(|s| s.deny.first_match(c)) {
        let reason = match c.identity {
            _ if snapshot.policy(&policy.key).is_none() => Reason::PolicyUnknown,
            None if policy.demands_mutual_tls() => Reason::PlaintextRefused,
            _ => Reason::PolicyDenied,
        };
        return Verdict { refused: Some(reason), policy: Some(key(policy)), dry_run };
    }
    if sets().all(|s| s.allow.is_empty()) {
        return Verdict { refused: None, policy: None, dry_run };
    }
    match sets().find_map(|s| s.allow.first_match(c)) {
        Some(policy) => Verdict { refused: None, policy: Some(key(policy)), dry_run },
        None => Verdict { refused: Some(Reason::PolicyDenied), policy: None, dry_run },
    }
}

#[cfg(test)]
mod tests;
