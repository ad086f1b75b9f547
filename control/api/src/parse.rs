//! From a manifest to an object.

use crate::{Broken, Kind, Object, ObjectKey};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

/// What a manifest held.
#[derive(Clone, Debug, PartialEq)]
pub enum Parsed {
    /// An object, and the paths of its fields that nobody knows.
    Object(Box<Object>, Vec<String>),
    /// An object that means nothing to a mesh.
    Foreign {
        /// Its kind, as it says.
        kind: String,
    },
}

/// Why a manifest is not an object.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct ParseError {
    /// The object, as far as the manifest names one.
    pub object: Option<ObjectKey>,
    /// The field that is wrong.
    pub field: String,
    /// What is wrong with it.
    pub message: String,
    /// Whom the object is about, where it is a policy and at least that can be read.
    pub left: Option<Box<Broken>>,
}

impl Object {
    /// Reads one manifest. A `List` is for the caller to take apart.
    pub fn parse(value: Value) -> Result<Parsed, ParseError> {
        let text = |path: &str| value.pointer(path).and_then(Value::as_str);
        let missing = |field: &str| ParseError {
            object: None,
            field: field.to_owned(),
            message: "is missing; every manifest has it".to_owned(),
            left: None,
        };
        let api_version = text("/apiVersion").ok_or_else(|| missing("apiVersion"))?;
        let kind_name = text("/kind").ok_or_else(|| missing("kind"))?;
        let Some(kind) = Kind::of(api_version, kind_name) else {
            return Ok(Parsed::Foreign { kind: format!("{api_version} {kind_name}") });
        };
        let name = text("/metadata/name").filter(|n| !n.is_empty()).ok_or_else(|| ParseError {
            message: format!("is missing from this {kind_name}"),
            ..missing("metadata.name")
        })?;
        let namespace = match text("/metadata/namespace") {
            _ if !kind.is_namespaced() => "",
            None | Some("") => "default",
            Some(ns) => ns,
        };
        let key = ObjectKey { kind, namespace: namespace.to_owned(), name: name.to_owned() };
        let left = Broken::of(&key, &value).map(Box::new);
        let (object, unknown) = match kind {
            Kind::Namespace => read(value).map(|(o, u)| (Object::Namespace(o), u)),
            Kind::Node => read(value).map(|(o, u)| (Object::Node(Box::new(o)), u)),
            Kind::ServiceAccount => read(value).map(|(o, u)| (Object::ServiceAccount(o), u)),
            Kind::Pod => read(value).map(|(o, u)| (Object::Pod(Box::new(o)), u)),
            Kind::Service => read(value).map(|(o, u)| (Object::Service(Box::new(o)), u)),
            Kind::EndpointSlice => read(value).map(|(o, u)| (Object::EndpointSlice(o), u)),
            Kind::AuthorizationPolicy => read(value).map(|(o, u)| (Object::AuthorizationPolicy(o), u)),
            Kind::PeerAuthentication => read(value).map(|(o, u)| (Object::PeerAuthentication(o), u)),
        }
        .map_err(|(field, message)| ParseError { object: Some(key), field, message, left })?;
        Ok(Parsed::Object(Box::new(object), unknown))
    }
}

/// Deserializes, and finds the fields that were lost on the way: `k8s-openapi` skips what it does not know.
fn read<T: DeserializeOwned + Serialize>(value: Value) -> Result<(T, Vec<String>), (String, String)> {
    let object: T = serde_path_to_error::deserialize(&value)
        .map_err(|e| (e.path().to_string(), e.inner().to_string()))?;
    let mut unknown = Vec::new();
    if let Ok(read) = serde_json::to_value(&object) {
        for part in ["metadata", "spec", "endpoints", "ports"] {
            if let Some(given) = value.get(part) {
                lost(given, read.get(part), part, &mut unknown);
            }
        }
    }
    Ok((object, unknown))
}

/// Collects the paths of what stands in `given` and not in `read`.
fn lost(given: &Value, read: Option<&Value>, path: &str, out: &mut Vec<String>) {
    match (given, read) {
        (Value::Null, _) => {}
        // Empty lists and maps are not written back.
        (Value::Object(m), None) if m.is_empty() => {}
        (Value::Array(a), None) if a.is_empty() => {}
        (_, None) => out.push(path.to_owned()),
        (Value::Object(given), Some(Value::Object(read))) => {
            for (key, value) in given {
                lost(value, read.get(key), &format!("{path}.{key}"), out);
            }
        }
        (Value::Array(given), Some(Value::Array(read))) => {
            for (at, value) in given.iter().enumerate() {
                lost(value, read.get(at), &format!("{path}[{at}]"), out);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parse(value: Value) -> (Object, Vec<String>) {
        match Object::parse(value).unwrap() {
            Parsed::Object(object, unknown) => (*object, unknown),
            Parsed::Foreign { kind } => panic!("{kind} is not foreign"),
        }
    }

    #[test]
    fn core_objects_name_their_unknown_fields() {
        let (object, unknown) = parse(json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "web", "namespace": "shop", "labels": {"app": "web"}, "lables": {}},
            "spec": {
                "containers": [{"name": "a", "ports": [], "prots": [{"containerPort": 80}]}],
                "nodename": "n1", "volumes": null
            },
            "status": {"podIPs": [{"ip": "10.0.0.1"}], "anything": "goes"}
        }));
        assert_eq!(object.key().to_string(), "Pod shop/web");
        assert_eq!(unknown, ["spec.containers[0].prots", "spec.nodename"]);
    }

    #[test]
    fn a_policy_with_an_unknown_field_is_refused_with_its_path() {
        let error = Object::parse(json!({
            "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
            "metadata": {"name": "p", "namespace": "shop"},
            "spec": {"rules": [{"from": [{"source": {"principal": ["x"]}}]}]}
        }))
        .unwrap_err();
        assert_eq!(error.object.unwrap().to_string(), "AuthorizationPolicy shop/p");
        assert!(error.field.starts_with("spec.rules[0].from[0].source"), "{}", error.field);
        assert!(error.message.contains("unknown field `principal`"), "{}", error.message);
    }

    #[test]
    fn a_wrong_type_names_its_field() {
        let error = Object::parse(json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
            "spec": {"ports": [{"port": "eighty"}]}
        }))
        .unwrap_err();
        assert_eq!(error.object.unwrap().to_string(), "Service default/web");
        assert_eq!(error.field, "spec.ports[0].port");
    }

    #[test]
    fn foreign_nameless_and_kindless_manifests() {
        let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "x"}});
        assert_eq!(Object::parse(deployment), Ok(Parsed::Foreign { kind: "apps/v1 Deployment".into() }));
        for (value, field) in [
            (json!({"kind": "Pod"}), "apiVersion"),
            (json!({"apiVersion": "v1"}), "kind"),
            (json!({"apiVersion": "v1", "kind": "Pod"}), "metadata.name"),
            (json!("text"), "apiVersion"),
        ] {
            assert_eq!(Object::parse(value).unwrap_err().field, field);
        }
    }

    #[test]
    fn peer_authentication_reads_modes_and_ports() {
        let (object, _) = parse(json!({
            "apiVersion": "security.istio.io/v1beta1", "kind": "PeerAuthentication",
            "metadata": {"name": "p", "namespace": "shop"},
            "spec": {"mtls": {"mode": "STRICT"}, "portLevelMtls": {"8080": {"mode": "PERMISSIVE"}}}
        }));
        let Object::PeerAuthentication(p) = object else { panic!("{object:?}") };
        assert_eq!(p.spec.mtls.unwrap().mode, crate::security::MutualTlsMode::Strict);
        assert_eq!(p.spec.port_level_mtls[&8080].mode, crate::security::MutualTlsMode::Permissive);
    }
}
