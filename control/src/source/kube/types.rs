//! Whether the type of a kind is there, and in which version it is served: asked where the API does not find the kind.
//!
//! That the API finds nothing is no proof: while it starts, or while a type is set up or taken down, it says the same. Policies
//! that were in force go only when the CustomResourceDefinition is seen to be gone, which takes its objects with it.

use super::kinds::{self, KubeResource};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{Api, Client};
use std::{
    collections::BTreeMap,
    sync::{PoisonError, RwLock},
};
use weft_api::Kind;

/// The versions that are read, the best one first; they differ in nothing that is read.
const VERSIONS: [&str; 2] = ["v1", "v1beta1"];

/// In which version each kind is read, where that is another than usual.
#[derive(Debug, Default)]
pub struct Served(RwLock<BTreeMap<Kind, &'static str>>);

impl Served {
    /// Where the API has `kind`.
    pub fn resource_of(&self, kind: Kind) -> KubeResource {
        let versions = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let resource = kinds::resource_of(kind);
        KubeResource { version: versions.get(&kind).copied().unwrap_or(resource.version), ..resource }
    }

    pub(super) fn set(&self, kind: Kind, version: &'static str) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(kind, version);
    }
}

/// What there is of a type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Type {
    /// Nothing; so there are no objects of it.
    Absent,
    /// It is served in this version.
    Served(&'static str),
    /// It is served in these alone, none of which is read here.
    Unserved(String),
    /// It is being set up, or taken down.
    Pending,
}

/// Looks at the type of `kind`.
pub(super) async fn look(client: &Client, kind: Kind) -> kube::Result<Type> {
    let KubeResource { group, plural, .. } = kinds::resource_of(kind);
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let found = definitions.get_opt(&format!("{plural}.{group}")).await?;
    Ok(found.map_or(Type::Absent, |definition| of(&definition)))
}

fn of(definition: &CustomResourceDefinition) -> Type {
    let conditions = definition.status.iter().filter_map(|s| s.conditions.as_ref()).flatten();
    let is_established = conditions.clone().any(|c| c.type_ == "Established" && c.status == "True");
    if definition.metadata.deletion_timestamp.is_some() || !is_established {
        return Type::Pending;
    }
    let served = definition.spec.versions.iter().filter(|v| v.served).map(|v| v.name.as_str());
    match VERSIONS.into_iter().find(|version| served.clone().any(|served| served == *version)) {
        Some(version) => Type::Served(version),
        None => Type::Unserved(served.collect::<Vec<_>>().join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn definition(versions: &[(&str, bool)], established: &str, deleted: bool) -> CustomResourceDefinition {
        let version =
            |(name, served): &(&str, bool)| json!({"name": name, "served": served, "storage": false});
        let mut metadata = json!({"name": "authorizationpolicies.security.istio.io"});
        if deleted {
            metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        }
        let names = json!({"kind": "AuthorizationPolicy", "plural": "authorizationpolicies"});
        serde_json::from_value(json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": metadata,
            "spec": {"group": "security.istio.io", "names": names, "scope": "Namespaced",
                "versions": versions.iter().map(version).collect::<Vec<_>>()},
            "status": {"conditions": [{"type": "Established", "status": established}]},
        }))
        .unwrap()
    }

    #[test]
    fn the_best_version_that_is_served_is_read() {
        for (versions, found) in [
            (&[("v1beta1", true), ("v1", true)][..], Type::Served("v1")),
            (&[("v1beta1", true), ("v1", false)], Type::Served("v1beta1")),
            (&[("v1alpha1", true), ("v2", true), ("v1", false)], Type::Unserved("v1alpha1, v2".into())),
        ] {
            assert_eq!(of(&definition(versions, "True", false)), found);
        }
    }

    #[test]
    fn a_type_that_comes_or_goes_is_waited_for() {
        assert_eq!(of(&definition(&[("v1", true)], "False", false)), Type::Pending);
        assert_eq!(of(&definition(&[("v1", true)], "True", true)), Type::Pending);
    }
}
