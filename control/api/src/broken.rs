//! What is left of a policy that cannot be read as a whole: whom it is about.

use crate::{Kind, ObjectKey};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;
use std::collections::BTreeMap;

/// The annotation that makes an AuthorizationPolicy only record what it would do.
pub const DRY_RUN: &str = "istio.io/dry-run";

/// A policy of which only so much can be read: that it is one for nodes to enforce, and for which workloads. What it would
/// let through is not known, so whoever holds it must let nothing through.
#[derive(Clone, Debug, PartialEq)]
pub struct Broken {
    /// Of which kind it is.
    pub kind: Kind,
    /// Its name and namespace, nothing else.
    pub metadata: ObjectMeta,
    /// The labels of the workloads that it is about; where there are none, it is about all in its scope.
    pub selector: BTreeMap<String, String>,
}

impl Broken {
    /// What is left of the object `key`, which `manifest` says too badly to be read; `None` where it closes nothing: it is no
    /// policy, one that nodes would not enforce, or one that does not tell whom it is about.
    pub(crate) fn of(key: &ObjectKey, manifest: &Value) -> Option<Self> {
        let others: &[&str] = match key.kind {
            Kind::AuthorizationPolicy => &["action", "provider", "rules", "targetRef", "targetRefs"],
            Kind::PeerAuthentication => &["mtls", "portLevelMtls"],
            _ => return None,
        };
        let empty = Value::Object(serde_json::Map::new());
        let spec = manifest.get("spec").filter(|spec| !spec.is_null()).unwrap_or(&empty).as_object()?;
        let is_given = |field: &str| match spec.get(field) {
            None | Some(Value::Null) => false,
            Some(Value::Array(items)) => !items.is_empty(),
            Some(_) => true,
        };
        let annotation = manifest.get("metadata").and_then(|m| m.get("annotations")?.get(DRY_RUN)?.as_str());
        let action = spec.get("action").and_then(Value::as_str);
        if is_given("targetRef")
            || is_given("targetRefs")
            || annotation == Some("true")
            || matches!(action, Some("AUDIT" | "CUSTOM"))
        {
            return None;
        }
        let selector = match spec.get("selector") {
            // A field that nobody knows may be what was to be the selector.
            None if spec.keys().any(|field| !others.contains(&field.as_str())) => return None,
            None | Some(Value::Null) => BTreeMap::new(),
            Some(selector) => labels(selector)?,
        };
        let (name, namespace) = (Some(key.name.clone()), Some(key.namespace.clone()));
        let metadata = ObjectMeta { name, namespace, ..ObjectMeta::default() };
        Some(Self { kind: key.kind, metadata, selector })
    }
}

/// The labels of a selector in which everything can be read.
fn labels(selector: &Value) -> Option<BTreeMap<String, String>> {
    let selector = selector.as_object()?;
    if selector.keys().any(|field| field != "matchLabels") {
        return None;
    }
    match selector.get("matchLabels") {
        None | Some(Value::Null) => Some(BTreeMap::new()),
        Some(labels) => {
            let text = |(key, value): (&String, &Value)| Some((key.clone(), value.as_str()?.to_owned()));
            labels.as_object()?.iter().map(text).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn selector(kind: Kind, manifest: &Value) -> Option<BTreeMap<String, String>> {
        let key = ObjectKey { kind, namespace: "shop".into(), name: "p".into() };
        Broken::of(&key, manifest).map(|broken| broken.selector)
    }

    fn of_spec(spec: Value) -> Option<BTreeMap<String, String>> {
        selector(Kind::AuthorizationPolicy, &json!({"metadata": {"name": "p"}, "spec": spec}))
    }

    #[test]
    fn whom_a_policy_is_about_is_read_beside_what_cannot_be() {
        let db = BTreeMap::from([("app".to_owned(), "db".to_owned())]);
        let picks = json!({"matchLabels": {"app": "db"}});
        assert_eq!(of_spec(json!({"selector": picks, "acton": "DENY"})), Some(db.clone()));
        assert_eq!(of_spec(json!({"selector": picks, "rules": "all"})), Some(db.clone()));
        let peer = json!({"spec": {"selector": picks, "mtls": {"mode": "STRIKT"}}});
        assert_eq!(selector(Kind::PeerAuthentication, &peer), Some(db));
        for wide in [json!({"rules": 1}), json!({"selector": {}, "rules": 1}), Value::Null] {
            assert_eq!(of_spec(wide), Some(BTreeMap::new()));
        }
    }

    #[test]
    fn nothing_is_closed_that_the_policy_does_not_name() {
        for unclear in [
            json!({"selektor": {"matchLabels": {"app": "db"}}}),
            json!({"selector": {"matchLabel": {"app": "db"}}}),
            json!({"selector": {"matchLabels": {"app": 1}}}),
            json!({"selector": ["app"]}),
            json!("text"),
        ] {
            assert_eq!(of_spec(unclear.clone()), None, "{unclear}");
        }
    }

    #[test]
    fn what_nodes_would_not_enforce_closes_nothing() {
        for spec in [
            json!({"rules": 1, "action": "AUDIT"}),
            json!({"rules": 1, "action": "CUSTOM"}),
            json!({"rules": 1, "targetRefs": [{"kind": "Gateway"}]}),
        ] {
            assert_eq!(of_spec(spec.clone()), None, "{spec}");
        }
        let dry = json!({"metadata": {"annotations": {DRY_RUN: "true"}}, "spec": {"rules": 1}});
        assert_eq!(selector(Kind::AuthorizationPolicy, &dry), None);
        assert_eq!(selector(Kind::Service, &json!({"spec": {}})), None);
    }
}
