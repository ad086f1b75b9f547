//! Between wire resources and `weft_model::Delta`, both ways.
//!
//! Decoding is strict and total: any bytes give a delta or an error that names the resource and the field, so that one
//! bad resource is refused alone. Encoding is deterministic: equal content gives equal bytes.

mod field;
mod node_pod;
mod policy;
mod service;
mod workload;

use super::proto::{discovery::Resource, node, security, workload as wds};
use prost::Message;
use prost_types::Any;
use weft_model::{Delta, Name, NodePod, Policy, PolicyKey, Service, ServiceKey, Workload, clip};

pub use field::FieldError;

/// The type URL by which a node tells control how it is itself; nothing is ever sent of it. The request's node has in its
/// metadata what is to be told.
pub const AGENT_TYPE_URL: &str = "type.googleapis.com/weft.dev.node.v1.Agent";
/// The key in that metadata that says, as a bool, whether the agent is ready to carry its pods.
pub const READY_KEY: &str = "READY";

/// A type of resource that a node subscribes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Workloads and services, `istio.workload.Address`.
    Address,
    /// Policies, `istio.security.Authorization`.
    Authorization,
    /// The pods of the node itself, `weft.dev.node.v1.NodePod`: for an agent that finds its pods by them.
    NodePod,
}

impl Kind {
    /// Every kind, in the order in which a node subscribes: what a workload forbids should be known before it is, and what it
    /// is before its pod is looked for.
    pub const ALL: [Kind; 3] = [Kind::Authorization, Kind::Address, Kind::NodePod];

    /// Its type URL.
    pub fn type_url(self) -> &'static str {
        match self {
            Kind::Address => "type.googleapis.com/istio.workload.Address",
            Kind::Authorization => "type.googleapis.com/istio.security.Authorization",
            Kind::NodePod => "type.googleapis.com/weft.dev.node.v1.NodePod",
        }
    }

    /// The kind with this type URL.
    pub fn from_type_url(url: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|k| k.type_url() == url)
    }
}

/// What a held resource is, which a name alone does not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Entity {
    /// A workload, named by its uid.
    Workload,
    /// A service, named by its key.
    Service,
    /// A policy, named by its key.
    Policy,
    /// A pod of the node, named by its uid.
    NodePod,
}

/// Why a resource is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("resource `{resource}`: {cause}")]
pub struct Refused {
    /// The resource's name.
    pub resource: String,
    /// What is wrong, and where.
    #[source]
    pub cause: FieldError,
}

/// Decodes one resource of a response of `kind`.
pub fn decode(kind: Kind, resource: &Resource) -> Result<Delta, Refused> {
    let refused = |cause| Refused { resource: clip(&resource.name), cause };
    let any = resource.resource.as_ref().ok_or_else(|| refused(FieldError::missing("resource")))?;
    if any.type_url != kind.type_url() {
        return Err(refused(FieldError::invalid("resource.type_url", &any.type_url)));
    }
    let delta = match kind {
        Kind::Address => decode_address(&any.value),
        Kind::Authorization => {
            parse::<security::Authorization>(&any.value).and_then(policy::from_wire).map(Delta::Policy)
        }
        Kind::NodePod => parse::<node::NodePod>(&any.value).and_then(node_pod::from_wire).map(Delta::NodePod),
    }
    .map_err(refused)?;
    let (_, name) = name_of(&delta);
    if !resource.name.is_empty() && *resource.name != *name {
        return Err(refused(FieldError::invalid("name", &name)));
    }
    Ok(delta)
}

fn decode_address(bytes: &[u8]) -> Result<Delta, FieldError> {
    match parse::<wds::Address>(bytes)?.r#type {
        Some(wds::address::Type::Workload(w)) => Ok(Delta::Workload(Box::new(workload::from_wire(w)?))),
        Some(wds::address::Type::Service(s)) => service::from_wire(s),
        None => Err(FieldError::missing("type")),
    }
}

fn parse<M: Message + Default>(bytes: &[u8]) -> Result<M, FieldError> {
    M::decode(bytes).map_err(|e| FieldError::invalid("resource.value", &e.to_string()))
}

/// The resource that says `delta`, its version left empty; `None` where the delta says that something is gone.
pub fn encode(delta: &Delta) -> Option<(Kind, Resource)> {
    match delta {
        Delta::Workload(w) => Some((Kind::Address, encode_workload(w))),
        Delta::Service(s) => Some((Kind::Address, encode_service(s))),
        Delta::Policy(p) => Some((Kind::Authorization, encode_policy(p))),
        Delta::NodePod(p) => Some((Kind::NodePod, encode_node_pod(p))),
        Delta::WorkloadGone(_) | Delta::ServiceGone(_) | Delta::PolicyGone(_) | Delta::NodePodGone(_) => None,
    }
}

/// The resource that says `w`, its version left empty.
pub fn encode_workload(w: &Workload) -> Resource {
    let value = address(wds::address::Type::Workload(workload::to_wire(w)));
    resource(Kind::Address, w.uid.to_string(), value)
}

/// The resource that says `s`, its version left empty.
pub fn encode_service(s: &Service) -> Resource {
    let value = address(wds::address::Type::Service(service::to_wire(s)));
    resource(Kind::Address, s.key.to_string(), value)
}

/// The resource that says `p`, its version left empty.
pub fn encode_policy(p: &Policy) -> Resource {
    resource(Kind::Authorization, p.key.to_string(), policy::to_wire(p).encode_to_vec())
}

/// The resource that says `p`, its version left empty.
pub fn encode_node_pod(p: &NodePod) -> Resource {
    resource(Kind::NodePod, p.uid.to_string(), node_pod::to_wire(p).encode_to_vec())
}

fn resource(kind: Kind, name: String, value: Vec<u8>) -> Resource {
    let any = Any { type_url: kind.type_url().to_owned(), value };
    Resource { name, resource: Some(any), ..Resource::default() }
}

fn address(t: wds::address::Type) -> Vec<u8> {
    wds::Address { r#type: Some(t) }.encode_to_vec()
}

/// The kind of resource that `delta` is about, as the wire sorts them.
pub fn kind_of(delta: &Delta) -> Kind {
    match delta {
        Delta::Workload(_) | Delta::WorkloadGone(_) | Delta::Service(_) | Delta::ServiceGone(_) => {
            Kind::Address
        }
        Delta::Policy(_) | Delta::PolicyGone(_) => Kind::Authorization,
        Delta::NodePod(_) | Delta::NodePodGone(_) => Kind::NodePod,
    }
}

/// What `delta` is about, and the name of its resource.
pub fn name_of(delta: &Delta) -> (Entity, Name) {
    match delta {
        Delta::Workload(w) => (Entity::Workload, w.uid.clone()),
        Delta::WorkloadGone(uid) => (Entity::Workload, uid.clone()),
        Delta::Service(s) => (Entity::Service, s.key.to_string().into()),
        Delta::ServiceGone(key) => (Entity::Service, key.to_string().into()),
        Delta::Policy(p) => (Entity::Policy, p.key.to_string().into()),
        Delta::PolicyGone(key) => (Entity::Policy, key.to_string().into()),
        Delta::NodePod(p) => (Entity::NodePod, p.uid.clone()),
        Delta::NodePodGone(uid) => (Entity::NodePod, uid.clone()),
    }
}

/// The delta that takes the `entity` named `name` away; `None` where the name cannot be one of its kind.
pub fn gone(entity: Entity, name: &str) -> Option<Delta> {
    match entity {
        Entity::Workload => Some(Delta::WorkloadGone(name.into())),
        Entity::Service => name.parse::<ServiceKey>().ok().map(Delta::ServiceGone),
        Entity::Policy => name.parse::<PolicyKey>().ok().map(Delta::PolicyGone),
        Entity::NodePod => Some(Delta::NodePodGone(name.into())),
    }
}

#[cfg(test)]
mod tests;
