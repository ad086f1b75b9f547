//! Services.

use super::field::{self, FieldError};
use crate::discovery::proto::workload as wds;
use wds::load_balancing as lb;
use weft_model::{
    Delta, Service, ServiceKey,
    service::{LoadBalancing, LocalityMode, Scope, ServicePort},
};

pub(super) fn from_wire(s: wds::Service) -> Result<Delta, FieldError> {
    let key = ServiceKey {
        namespace: field::key_part("namespace", s.namespace)?,
        hostname: field::key_part("hostname", s.hostname)?,
    };
    let Some(load_balancing) = load_balancing(s.load_balancing.unwrap_or_default())? else {
        return Ok(Delta::ServiceGone(key));
    };
    let ports = s
        .ports
        .iter()
        .map(|p| {
            Ok(ServicePort {
                service_port: field::port("ports.service_port", p.service_port)?,
                target_port: field::port("ports.target_port", p.target_port)?,
            })
        })
        .collect::<Result<_, _>>()?;
    Ok(Delta::Service(Service {
        key,
        name: s.name.into(),
        addresses: s.addresses.iter().map(|a| field::address("addresses", a)).collect::<Result<_, _>>()?,
        external_addresses: s
            .external_addresses
            .iter()
            .map(|a| field::address("external_addresses", a))
            .collect::<Result<_, _>>()?,
        ports,
        subject_alt_names: s.subject_alt_names.into_iter().map(Into::into).collect(),
        waypoint: s.waypoint.map(|g| field::gateway("waypoint", g)).transpose()?,
        load_balancing,
    }))
}

/// `None` for passthrough: such a service asks that its traffic go wherever it was addressed, which is what happens to
/// the traffic of a service that nobody knows.
fn load_balancing(l: wds::LoadBalancing) -> Result<Option<LoadBalancing>, FieldError> {
    let mode = match field::enumeration("load_balancing.mode", l.mode)? {
        lb::Mode::UnspecifiedMode => LocalityMode::Any,
        lb::Mode::Strict => LocalityMode::Strict,
        lb::Mode::Failover => LocalityMode::Failover,
        lb::Mode::Passthrough => return Ok(None),
    };
    let health: lb::HealthPolicy = field::enumeration("load_balancing.health_policy", l.health_policy)?;
    let mut scopes = Vec::with_capacity(l.routing_preference.len());
    for scope in l.routing_preference {
        match field::enumeration("load_balancing.routing_preference", scope)? {
            lb::Scope::UnspecifiedScope => {}
            lb::Scope::Region => scopes.push(Scope::Region),
            lb::Scope::Zone => scopes.push(Scope::Zone),
            lb::Scope::Subzone => scopes.push(Scope::Subzone),
            lb::Scope::Node => scopes.push(Scope::Node),
            lb::Scope::Cluster => scopes.push(Scope::Cluster),
            lb::Scope::Network => scopes.push(Scope::Network),
        }
    }
    Ok(Some(LoadBalancing {
        scopes,
        mode,
        publish_not_ready: health == lb::HealthPolicy::AllowAll,
        client_affinity: l.client_affinity,
    }))
}

pub(super) fn to_wire(s: &Service) -> wds::Service {
    let port = |p: &ServicePort| wds::Port {
        service_port: p.service_port.into(),
        target_port: p.target_port.into(),
    };
    wds::Service {
        name: s.name.to_string(),
        namespace: s.key.namespace.to_string(),
        hostname: s.key.hostname.to_string(),
        addresses: s.addresses.iter().map(field::to_address).collect(),
        ports: s.ports.iter().map(port).collect(),
        subject_alt_names: s.subject_alt_names.iter().map(ToString::to_string).collect(),
        waypoint: s.waypoint.as_ref().map(field::to_gateway),
        load_balancing: to_load_balancing(&s.load_balancing),
        external_addresses: s.external_addresses.iter().map(field::to_address).collect(),
    }
}

fn to_load_balancing(l: &LoadBalancing) -> Option<wds::LoadBalancing> {
    if *l == LoadBalancing::default() {
        return None;
    }
    let scope = |s: &Scope| {
        i32::from(match s {
            Scope::Region => lb::Scope::Region,
            Scope::Zone => lb::Scope::Zone,
            Scope::Subzone => lb::Scope::Subzone,
            Scope::Node => lb::Scope::Node,
            Scope::Cluster => lb::Scope::Cluster,
            Scope::Network => lb::Scope::Network,
        })
    };
    Some(wds::LoadBalancing {
        routing_preference: l.scopes.iter().map(scope).collect(),
        mode: match l.mode {
            LocalityMode::Any => lb::Mode::UnspecifiedMode,
            LocalityMode::Strict => lb::Mode::Strict,
            LocalityMode::Failover => lb::Mode::Failover,
        }
        .into(),
        health_policy: match l.publish_not_ready {
            false => lb::HealthPolicy::OnlyHealthy,
            true => lb::HealthPolicy::AllowAll,
        }
        .into(),
        client_affinity: l.client_affinity,
    })
}
