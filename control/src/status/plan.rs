//! What is to be said, given what is wrong now and what was said before: a pure fold.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};
use weft_api::{Kind, ObjectKey};
use weft_index::{Finding, Severity};

/// Events are kept for an hour; what is still wrong then is said again.
const AGAIN: Duration = Duration::from_secs(55 * 60);
/// What comes and goes is said once in so long.
const QUIET: Duration = Duration::from_secs(10 * 60);
/// So many findings are remembered; others wait until some of these are gone.
const MOST: usize = 10_000;

/// What is said of a policy in its condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is in force.
    Accepted,
    /// It is in force, but hardly as meant.
    Questionable(String),
    /// It is not in force, or not this version of it.
    Rejected(String),
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// Writes an Event.
    Event {
        /// About this.
        finding: Finding,
        /// The object, which every such finding has.
        object: ObjectKey,
        /// In one word.
        reason: &'static str,
    },
    /// Writes the condition of a policy.
    Condition {
        /// Which one.
        object: ObjectKey,
        /// What it is to say.
        verdict: Verdict,
    },
}

impl Effect {
    /// The object that it is about.
    pub(super) fn object(&self) -> &ObjectKey {
        match self {
            Effect::Event { object, .. } | Effect::Condition { object, .. } => object,
        }
    }
}

/// What was said so far.
#[derive(Debug, Default)]
pub(super) struct Said {
    events: BTreeMap<Finding, Instant>,
    /// Conditions that say something else than that all is well, and those of an earlier leader, which may say anything.
    conditions: BTreeMap<ObjectKey, Option<Verdict>>,
}

impl Said {
    /// Somebody else said something of this object.
    pub(super) fn inherit(&mut self, object: ObjectKey) {
        self.conditions.insert(object, None);
    }

    /// What is to be done now, at most so much.
    pub(super) fn plan(&mut self, findings: &[Finding], now: Instant, most: usize) -> Vec<Effect> {
        let current: BTreeSet<&Finding> = findings.iter().filter(|f| is_told(f)).collect();
        self.events.retain(|f, at| current.contains(f) || now.duration_since(*at) < QUIET);
        let mut verdicts: BTreeMap<&ObjectKey, Verdict> = BTreeMap::new();
        let mut effects = Vec::new();
        for finding in current {
            let Some(object) = &finding.object else { continue };
            if has_conditions(object.kind) {
                let text = format!("{}: {}; {}", finding.field, finding.message, finding.mend);
                let text = text.trim_start_matches(": ").to_owned();
                let verdict = match finding.severity {
                    Severity::Error => Verdict::Rejected(text),
                    Severity::Warning | Severity::Info => Verdict::Questionable(text),
                };
                let place = verdicts.entry(object).or_insert_with(|| verdict.clone());
                // The worst one counts; of two that are alike, the first.
                if matches!((&*place, &verdict), (Verdict::Questionable(_), Verdict::Rejected(_))) {
                    *place = verdict;
                }
            }
            let known = self.events.get(finding);
            if known.is_some_and(|at| now.duration_since(*at) < AGAIN)
                || (known.is_none() && self.events.len() >= MOST)
            {
                continue;
            }
            let reason =
                if finding.severity == Severity::Error { "WeftRejected" } else { "WeftQuestionable" };
            effects.push(Effect::Event { finding: finding.clone(), object: object.clone(), reason });
        }
        let well = self.conditions.keys().filter(|object| !verdicts.contains_key(object));
        let mut conditions: Vec<Effect> = well
            .map(|object| Effect::Condition { object: object.clone(), verdict: Verdict::Accepted })
            .collect();
        for (object, verdict) in verdicts {
            if self.conditions.get(object) != Some(&Some(verdict.clone())) {
                conditions.push(Effect::Condition { object: object.clone(), verdict });
            }
        }
        conditions.extend(effects);
        conditions.truncate(most);
        conditions
    }

    /// Notes that something is done.
    pub(super) fn done(&mut self, effect: Effect, now: Instant) {
        match effect {
            Effect::Event { finding, .. } => drop(self.events.insert(finding, now)),
            Effect::Condition { object, verdict: Verdict::Accepted } => drop(self.conditions.remove(&object)),
            Effect::Condition { object, verdict } => drop(self.conditions.insert(object, Some(verdict))),
        }
    }
}

fn has_conditions(kind: Kind) -> bool {
    matches!(kind, Kind::AuthorizationPolicy | Kind::PeerAuthentication)
}

/// Whether a finding is worth an Event. A Service without endpoints is an everyday thing, and its owner's own.
fn is_told(finding: &Finding) -> bool {
    let Some(object) = &finding.object else { return false };
    match finding.severity {
        Severity::Error => true,
        Severity::Warning => !matches!(object.kind, Kind::Service | Kind::EndpointSlice),
        Severity::Info => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(kind: Kind, severity: Severity, message: &str) -> Finding {
        Finding {
            severity,
            file: None,
            object: Some(ObjectKey { kind, namespace: "shop".into(), name: "p".into() }),
            field: "spec".into(),
            message: message.into(),
            mend: "mend it".into(),
        }
    }

    fn carry_out(said: &mut Said, findings: &[Finding], now: Instant) -> Vec<Effect> {
        let effects = said.plan(findings, now, 100);
        effects.iter().for_each(|e| said.done(e.clone(), now));
        effects
    }

    #[test]
    fn what_is_wrong_is_said_once_and_again_when_events_have_expired() {
        let (mut said, start) = (Said::default(), Instant::now());
        let bad = [finding(Kind::AuthorizationPolicy, Severity::Error, "bad")];
        let first = carry_out(&mut said, &bad, start);
        assert_eq!(first.len(), 2, "an Event and a condition: {first:?}");
        assert!(carry_out(&mut said, &bad, start + QUIET).is_empty());
        assert_eq!(carry_out(&mut said, &bad, start + AGAIN).len(), 1, "the Event alone");
        // Mended: the condition says so, and no Event.
        let mended = carry_out(&mut said, &[], start + AGAIN);
        assert!(matches!(&mended[..], [Effect::Condition { verdict: Verdict::Accepted, .. }]), "{mended:?}");
        assert!(carry_out(&mut said, &[], start + AGAIN).is_empty());
        // It comes back at once: the condition says so, an Event did so lately.
        assert_eq!(carry_out(&mut said, &bad, start + AGAIN + Duration::from_secs(1)).len(), 1);
    }

    #[test]
    fn the_worst_counts_and_everyday_things_are_not_said() {
        let (mut said, now) = (Said::default(), Instant::now());
        let findings = [
            finding(Kind::PeerAuthentication, Severity::Warning, "odd"),
            finding(Kind::PeerAuthentication, Severity::Error, "bad"),
            finding(Kind::Service, Severity::Warning, "no pod stands behind it"),
            finding(Kind::Pod, Severity::Info, "no address yet"),
        ];
        let effects = carry_out(&mut said, &findings, now);
        assert_eq!(effects.len(), 3, "{effects:?}");
        let Effect::Condition { verdict: Verdict::Rejected(text), .. } = &effects[0] else {
            panic!("{effects:?}")
        };
        assert_eq!(text, "spec: bad; mend it");
    }

    #[test]
    fn what_an_earlier_leader_said_is_put_right() {
        let (mut said, now) = (Said::default(), Instant::now());
        let bad = finding(Kind::AuthorizationPolicy, Severity::Warning, "odd");
        let mut other = bad.object.clone().unwrap();
        other.name = "mended meanwhile".into();
        said.inherit(other.clone());
        said.inherit(bad.object.clone().unwrap());
        let effects = said.plan(&[bad], now, 2);
        assert_eq!(effects[0], Effect::Condition { object: other, verdict: Verdict::Accepted });
        assert_eq!(effects.len(), 2, "no more than was allowed");
    }
}
