//! What is wrong with the objects as they stand now.

use super::{Index, within};
use crate::{
    facts::Key,
    finding::{Finding, Note, Severity},
    selector,
};
use weft_api::{Kind, ObjectKey};

impl Index {
    /// Everything that is wrong now, the worst first.
    pub fn findings(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        for (object, notes) in self.notes.iter().chain(&self.contested) {
            for note in notes {
                let mut finding = note.clone().about(object);
                if finding.severity == Severity::Error && self.holds(object) {
                    finding.message.push_str(" (its last good version stays in force)");
                }
                findings.push(finding);
            }
        }
        self.lonely_services(&mut findings);
        self.idle_policies(&mut findings);
        self.idle_peers(&mut findings);
        findings.sort_by(|a, b| b.severity.cmp(&a.severity).then_with(|| a.cmp(b)));
        findings
    }

    /// Whether a former version of an object that is noted as bad is in force.
    fn holds(&self, id: &ObjectKey) -> bool {
        let key = (id.namespace.clone(), id.name.clone());
        !self.contested.contains_key(id)
            && match id.kind {
                Kind::Pod => self.pods.contains_key(&key),
                Kind::Service => self.services.contains_key(&key),
                Kind::AuthorizationPolicy => self.policies.get(&key).is_some_and(|p| p.policy.is_some()),
                Kind::PeerAuthentication => self.peers.contains_key(&key),
                Kind::EndpointSlice => self.endpoints.has_slice(&key),
                Kind::Namespace | Kind::Node | Kind::ServiceAccount => false,
            }
    }

    fn lonely_services(&self, findings: &mut Vec<Finding>) {
        for (key, service) in &self.services {
            if service.external_name || self.output.endpoints(&self.config.service_key(key)) > 0 {
                continue;
            }
            let note = if service.selector.is_empty() {
                Note::new(
                    Severity::Warning,
                    "",
                    "no EndpointSlice gives the service an endpoint",
                    "add an EndpointSlice that names it, or a spec.selector",
                )
            } else {
                Note::new(
                    Severity::Warning,
                    "spec.selector",
                    "no pod stands behind the service",
                    "see that the selector matches the labels of pods with addresses",
                )
            };
            findings.push(note.about(&id(Kind::Service, key)));
        }
    }

    fn idle_policies(&self, findings: &mut Vec<Finding>) {
        for (key, facts) in &self.policies {
            let (Some(_), Some(policy)) = (&facts.selector, &facts.policy) else { continue };
            if self.output.selected(&policy.key) == 0 {
                let note = Note::new(
                    Severity::Warning,
                    "spec.selector",
                    "the policy selects no pod of the mesh",
                    "see that matchLabels matches the labels of pods in the mesh, in the policy's namespace",
                );
                findings.push(note.about(&id(Kind::AuthorizationPolicy, key)));
            }
        }
    }

    fn idle_peers(&self, findings: &mut Vec<Finding>) {
        for (key, peer) in &self.peers {
            let note = match &peer.selector {
                Some(labels) => {
                    let mut pods = within(&self.pods, &key.0).map(|(_, p)| p);
                    if pods.any(|p| selector::matches(labels, &p.labels)) {
                        continue;
                    }
                    Note::new(
                        Severity::Warning,
                        "spec.selector",
                        "the policy selects no pod",
                        "see that matchLabels matches the labels of pods in its namespace",
                    )
                }
                None => match self.wide_peer(&key.0) {
                    Some(oldest) if oldest.key != *key => Note::new(
                        Severity::Warning,
                        "",
                        format!(
                            "{}/{} is older and holds for the same workloads",
                            oldest.key.0, oldest.key.1
                        ),
                        "delete one of the two",
                    ),
                    _ => continue,
                },
            };
            findings.push(note.about(&id(Kind::PeerAuthentication, key)));
        }
    }
}

fn id(kind: Kind, (namespace, name): &Key) -> ObjectKey {
    ObjectKey { kind, namespace: namespace.clone(), name: name.clone() }
}
