//! AuthorizationPolicy to L4 policy, with Istio's treatment of what L4 cannot see.
//!
//! A rule with HTTP attributes never holds in an ALLOW policy and holds without them in a DENY policy: either way more
//! is refused than asked for, never less.

mod clause;

use crate::{
    facts::{Digest, Key},
    finding::{Note, Severity},
    selector::Labels,
};
use weft_api::{
    AuthorizationPolicy,
    broken::DRY_RUN,
    security::{Action as ApiAction, AuthorizationPolicySpec},
};
use weft_model::{
    Policy, PolicyKey,
    policy::{Action, PolicyScope, Rule},
};

/// What matters of a policy.
#[derive(Clone, Debug)]
pub(crate) struct PolicyFacts {
    /// The labels that it selects by; `None` where it holds for a whole scope.
    pub selector: Option<Labels>,
    /// What nodes enforce; `None` where it is not for them.
    pub policy: Option<Policy>,
    /// No version of it could ever be used: `policy` refuses everything.
    pub closed: bool,
}

pub(crate) fn digest(
    root_namespace: &str,
    (namespace, name): &Key,
    object: &AuthorizationPolicy,
) -> Digest<PolicyFacts> {
    let mut notes = Vec::new();
    let spec = &object.spec;
    let none = |note| Ok((PolicyFacts { selector: None, policy: None, closed: false }, vec![note]));
    if spec.target_ref.is_some() || !spec.target_refs.is_empty() {
        return none(Note::new(
            Severity::Info,
            "spec.targetRefs",
            "the policy is for a waypoint; nodes do not enforce it",
            "use spec.selector for what nodes shall enforce",
        ));
    }
    let action = match spec.action {
        ApiAction::Allow => Action::Allow,
        ApiAction::Deny => Action::Deny,
        ApiAction::Audit | ApiAction::Custom => {
            return none(Note::new(
                Severity::Error,
                "spec.action",
                "nodes enforce ALLOW and DENY alone; this policy is not in force",
                "attach it to a waypoint with spec.targetRefs",
            ));
        }
    };
    let selector = spec.selector.as_ref().map(|s| s.match_labels.clone()).filter(|l| !l.is_empty());
    let rules = rules(spec, action, namespace, &mut notes);
    let policy = Policy {
        key: PolicyKey { namespace: namespace.as_str().into(), name: name.as_str().into() },
        scope: scope(root_namespace, namespace, selector.as_ref()),
        action,
        dry_run: dry_run(object, &mut notes),
        rules,
    };
    if crate::facts::is_fatal(&notes) {
        return Err(notes);
    }
    Ok((PolicyFacts { selector, policy: Some(policy), closed: false }, notes))
}

/// What stands in for a policy of which nothing is known but whom it is about: whom it would let through is not known, so
/// nobody is.
pub(crate) fn closed(root_namespace: &str, (namespace, name): &Key, selector: &Labels) -> PolicyFacts {
    let selector = Some(selector.clone()).filter(|l| !l.is_empty());
    let policy = Policy {
        key: PolicyKey { namespace: namespace.as_str().into(), name: name.as_str().into() },
        scope: scope(root_namespace, namespace, selector.as_ref()),
        action: Action::Deny,
        dry_run: false,
        rules: vec![Rule::default()],
    };
    PolicyFacts { selector, policy: Some(policy), closed: true }
}

/// Whether nodes would enforce the policy, could it be used: otherwise it closes nothing while it cannot.
pub(crate) fn is_enforced(object: &AuthorizationPolicy) -> bool {
    !dry_run(object, &mut Vec::new())
}

fn scope(root_namespace: &str, namespace: &str, selector: Option<&Labels>) -> PolicyScope {
    match selector {
        Some(_) => PolicyScope::Selector,
        None if namespace == root_namespace => PolicyScope::Global,
        None => PolicyScope::Namespace,
    }
}

fn dry_run(object: &AuthorizationPolicy, notes: &mut Vec<Note>) -> bool {
    let value = object.metadata.annotations.as_ref().and_then(|a| a.get(DRY_RUN));
    match value.map(String::as_str) {
        None | Some("false" | "") => false,
        Some("true") => true,
        Some(other) => {
            notes.push(Note::new(
                Severity::Error,
                format!("metadata.annotations[{DRY_RUN}]"),
                format!("`{other}` is neither true nor false"),
                "write \"true\" or \"false\", quoted",
            ));
            false
        }
    }
}

fn rules(
    spec: &AuthorizationPolicySpec,
    action: Action,
    namespace: &str,
    notes: &mut Vec<Note>,
) -> Vec<Rule> {
    if spec.rules.is_empty() && action == Action::Deny {
        notes.push(Note::new(
            Severity::Warning,
            "spec.rules",
            "a DENY policy without rules refuses nothing",
            "write `rules: [{}]` to refuse everything",
        ));
    }
    let mut rules = Vec::new();
    for (at, rule) in spec.rules.iter().enumerate() {
        let path = format!("spec.rules[{at}]");
        let (clauses, http) = clause::clauses(rule, namespace, &path, notes);
        if http.is_empty() {
            rules.push(Rule { clauses });
            continue;
        }
        let (message, keep) = match action {
            Action::Allow => ("the rule allows nothing", false),
            Action::Deny => ("the rule refuses also what these attributes would have let pass", true),
        };
        notes.push(Note::new(
            Severity::Warning,
            path,
            format!("nodes cannot see HTTP ({}), so {message}", http.join(", ")),
            "attach the policy to a waypoint with spec.targetRefs, or leave the attributes out",
        ));
        if keep {
            rules.push(Rule { clauses });
        }
    }
    rules
}
