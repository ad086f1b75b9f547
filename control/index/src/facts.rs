//! What the fold keeps of each object: the few facts that matter, checked once when the object comes in.

mod pod;
mod service;
mod slice;

pub(crate) use pod::PodFacts;
pub(crate) use service::{External, ServiceFacts, Target};
pub(crate) use slice::{EndpointFacts, SliceFacts};

use crate::{
    finding::{Note, Severity},
    selector::Labels,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use rustc_hash::FxBuildHasher;
use std::{hash::BuildHasher as _, net::IpAddr, num::NonZeroU64};
use weft_model::workload::Locality;

/// A namespace and a name.
pub(crate) type Key = (String, String);

/// An object's facts and what is odd about it, or why this version of it cannot be used.
pub(crate) type Digest<T> = Result<(T, Vec<Note>), Vec<Note>>;

/// The order in which objects came to be: by time, then by name. Objects without a time are the oldest.
pub(crate) type Age = (Option<String>, Key);

/// Which object of a name is meant: a hash of its uid, or nothing where none is told. Names are used again.
pub(crate) type Incarnation = Option<NonZeroU64>;

pub(crate) fn incarnation(uid: Option<&str>) -> Incarnation {
    let uid = uid.filter(|uid| !uid.is_empty())?;
    NonZeroU64::new(FxBuildHasher.hash_one(uid))
}

/// Whether the two may be the same object of one name.
pub(crate) fn may_be_same(one: Incarnation, other: Incarnation) -> bool {
    one.is_none() || other.is_none() || one == other
}

pub(crate) fn labels(meta: &ObjectMeta) -> Labels {
    meta.labels.clone().unwrap_or_default()
}

pub(crate) fn created(meta: &ObjectMeta) -> Option<String> {
    // RFC 3339 in UTC sorts as text.
    meta.creation_timestamp.as_ref().and_then(|t| serde_json::to_value(t).ok()?.as_str().map(str::to_owned))
}

/// Parses an address in canonical form, or says which field holds none.
pub(crate) fn address(field: impl Into<String>, text: &str, notes: &mut Vec<Note>) -> Option<IpAddr> {
    match text.parse::<IpAddr>() {
        Ok(ip) => Some(ip.to_canonical()),
        Err(_) => {
            notes.push(Note::new(
                Severity::Error,
                field,
                format!("`{text}` is not an IP address"),
                "write an IPv4 or IPv6 address",
            ));
            None
        }
    }
}

/// A port number, or a note about what is none.
pub(crate) fn port(field: impl Into<String>, number: i32, notes: &mut Vec<Note>) -> Option<u16> {
    match u16::try_from(number) {
        Ok(port) if port > 0 => Some(port),
        _ => {
            notes.push(Note::new(
                Severity::Error,
                field,
                format!("{number} is not a port"),
                "write a number from 1 to 65535",
            ));
            None
        }
    }
}

/// Whether any of `notes` forbids the use of the object.
pub(crate) fn is_fatal(notes: &[Note]) -> bool {
    notes.iter().any(|n| n.severity == Severity::Error)
}

/// What a namespace says about its pods.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct NamespaceFacts {
    /// Whether they are in the mesh.
    pub wish: Option<bool>,
    /// Whether their connections are encrypted on the node, too.
    pub always_encrypt: Option<bool>,
}

/// A node's place, from its labels.
pub(crate) fn locality(labels: &Labels) -> Locality {
    let get = |key: &str| labels.get(key).map_or("", String::as_str).into();
    Locality {
        region: get("topology.kubernetes.io/region"),
        zone: get("topology.kubernetes.io/zone"),
        subzone: get("topology.istio.io/subzone"),
    }
}
