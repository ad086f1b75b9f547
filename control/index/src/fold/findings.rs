//! What is wrong with the objects as they stand now.

use super::{Index, within};
use crate::{
    facts::{Key, PodFacts},
    finding::{Finding, Note, Severity},
    others::Other,
    selector,
    selector::Labels,
};
use std::collections::BTreeMap;
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
        self.shared_addresses(&mut findings);
        self.carried_by_others(&mut findings);
        self.idle_policies(&mut findings);
        self.idle_peers(&mut findings);
        self.closed(&mut findings);
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
                Kind::AuthorizationPolicy => {
                    self.policies.get(&key).is_some_and(|p| p.policy.is_some() && !p.closed)
                }
                Kind::PeerAuthentication => self.peers.get(&key).is_some_and(|p| !p.closed),
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

    /// Addresses from outside that services meet at.
    fn shared_addresses(&self, findings: &mut Vec<Finding>) {
        for (key, service) in &self.services {
            for external in &service.externals {
                let Some((namespace, name)) = self.externals.rival(service, external) else { continue };
                let field = match external.from_status {
                    true => "status.loadBalancer.ingress",
                    false => "spec.externalIPs",
                };
                let note = Note::new(
                    Severity::Info,
                    field,
                    format!(
                        "at {}, Service {namespace}/{name} has a port of this service, too; the mesh takes nobody from \
                         there to this service",
                        external.ip
                    ),
                    "give each its own address or ports; within the mesh, call the service by its name",
                );
                findings.push(note.about(&id(Kind::Service, key)));
            }
        }
    }

    /// Pods that are meant to take part and are left out, as another mesh carries them. Told of their namespaces.
    fn carried_by_others(&self, findings: &mut Vec<Finding>) {
        let mut groups: BTreeMap<(&str, Other), Vec<&Key>> = BTreeMap::new();
        for (key, other) in &self.others {
            if self.pods.get(key).is_some_and(|pod| self.is_wished(pod)) {
                groups.entry((&key.0, *other)).or_default().push(key);
            }
        }
        for ((namespace, other), pods) in groups {
            let note = Note::new(
                Severity::Warning,
                "",
                format!(
                    "{} {} and are left out of this mesh: two in one path break it",
                    named(&pods),
                    other.what()
                ),
                "take the other mesh off them and restart them, or label them `weft.dev/mesh: disabled`",
            );
            findings.push(note.about(&id(Kind::Namespace, &(String::new(), namespace.to_owned()))));
        }
    }

    /// What is closed because no version of a policy could ever be used.
    fn closed(&self, findings: &mut Vec<Finding>) {
        let policies = self.policies.iter().filter(|(_, p)| p.closed);
        let policies = policies.map(|(key, p)| {
            (Kind::AuthorizationPolicy, key, p.selector.as_ref(), "every connection is refused")
        });
        let peers = self.peers.iter().filter(|(_, p)| p.closed);
        let peers = peers
            .map(|(key, p)| (Kind::PeerAuthentication, key, p.selector.as_ref(), "all plaintext is refused"));
        for (kind, key, selector, what) in policies.chain(peers) {
            let note = Note::new(
                Severity::Error,
                "",
                format!("no version of it could be used yet, so {what} to {}", self.whom(&key.0, selector)),
                "mend it, or delete it to do without it",
            );
            findings.push(note.about(&id(kind, key)));
        }
    }

    /// The pods of the mesh that a policy of `namespace` is about, in words.
    fn whom(&self, namespace: &str, selector: Option<&Labels>) -> String {
        let everywhere = namespace == self.config.root_namespace;
        let scope = if everywhere { "the mesh".into() } else { format!("namespace {namespace}") };
        let is_meant = |key: &Key, pod: &PodFacts| {
            (everywhere || key.0 == namespace)
                && selector.is_none_or(|s| selector::matches(s, &pod.labels))
                && self.output.is_meshed(&self.config.pod_uid(key))
        };
        let pods: Vec<_> =
            self.pods.iter().filter(|(key, pod)| is_meant(key, pod)).map(|(key, _)| key).collect();
        let labels =
            selector.map(|s| s.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(","));
        let which = labels.map_or_else(|| "every pod".into(), |labels| format!("the pods with {labels}"));
        format!("{which} of {scope} ({})", named(&pods))
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

/// The names of some pods.
fn named(pods: &[&Key]) -> String {
    /// The others are counted.
    const NAMED: usize = 5;
    let mut names: Vec<String> = pods.iter().take(NAMED).map(|(ns, name)| format!("{ns}/{name}")).collect();
    match pods.len().checked_sub(NAMED) {
        Some(more) if more > 0 => names.push(format!("{more} more")),
        _ if names.is_empty() => names.push("none now".into()),
        _ => {}
    }
    names.join(", ")
}

fn id(kind: Kind, (namespace, name): &Key) -> ObjectKey {
    ObjectKey { kind, namespace: namespace.clone(), name: name.clone() }
}
