//! An object as it comes from the API, trimmed.

use super::{
    kinds::{Shape, resource_of},
    trim::Trim,
};
use aws_lc_rs::digest::{SHA256, digest};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::DynamicResourceScope;
use serde::{Deserialize, Deserializer, de::DeserializeSeed};
use serde_json::Value;
use std::{borrow::Cow, fmt, marker::PhantomData};

/// An object of which only that is left which matters.
pub(super) struct Raw<S> {
    /// Its name, namespace and resource version, which the client asks for.
    pub metadata: ObjectMeta,
    value: Value,
    shape: PhantomData<fn() -> S>,
}

/// Half of a SHA-256: nobody makes two objects that have the same.
pub(super) type Digest = [u8; 16];

impl<S: Shape> Raw<S> {
    /// What names it: namespace and name.
    pub(super) fn name(&self) -> (String, String) {
        (self.metadata.namespace.clone().unwrap_or_default(), self.metadata.name.clone().unwrap_or_default())
    }

    /// A digest of what matters of it.
    pub(super) fn digest(&self) -> Digest {
        // Writing a value to memory does not fail; one that did would have no digest, and count as changed.
        let bytes = serde_json::to_vec(&self.value).unwrap_or_default();
        let mut half = Digest::default();
        half.copy_from_slice(&digest(&SHA256, &bytes).as_ref()[..16]);
        half
    }

    /// The manifest that it makes. Elements of lists do not say what they are; here it is known.
    pub(super) fn into_manifest(mut self) -> Value {
        if let Value::Object(fields) = &mut self.value {
            let resource = resource_of(S::KIND);
            let version = match resource.group {
                "" => resource.version.to_owned(),
                group => format!("{group}/{}", resource.version),
            };
            fields.insert("apiVersion".into(), version.into());
            fields.insert("kind".into(), S::KIND.as_str().into());
        }
        self.value
    }
}

impl<'de, S: Shape> Deserialize<'de> for Raw<S> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut value = Trim(const { &S::KEEP }).deserialize(deserializer)?;
        let mut metadata = ObjectMeta::default();
        if let Some(Value::Object(given)) = value.get_mut("metadata") {
            let mut text = |field: &str, stays: bool| {
                let value = if stays { given.get(field).cloned() } else { given.remove(field) };
                value.as_ref().and_then(Value::as_str).map(str::to_owned)
            };
            metadata.name = text("name", true);
            metadata.namespace = text("namespace", true);
            // It changes with every heartbeat; what it stands for is compared instead.
            metadata.resource_version = text("resourceVersion", false);
        }
        Ok(Self { metadata, value, shape: PhantomData })
    }
}

impl<S> Clone for Raw<S> {
    fn clone(&self) -> Self {
        Self { metadata: self.metadata.clone(), value: self.value.clone(), shape: PhantomData }
    }
}

impl<S> fmt::Debug for Raw<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Raw").field("value", &self.value).finish_non_exhaustive()
    }
}

impl<S: Shape> kube::Resource for Raw<S> {
    /// The version that is asked for.
    type DynamicType = &'static str;
    type Scope = DynamicResourceScope;

    fn kind(_: &&'static str) -> Cow<'static, str> {
        S::KIND.as_str().into()
    }

    fn group(_: &&'static str) -> Cow<'static, str> {
        resource_of(S::KIND).group.into()
    }

    fn version(version: &&'static str) -> Cow<'static, str> {
        (*version).into()
    }

    fn plural(_: &&'static str) -> Cow<'static, str> {
        resource_of(S::KIND).plural.into()
    }

    fn metadata_api() -> bool {
        S::METADATA_ONLY
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}
