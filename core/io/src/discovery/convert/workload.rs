//! Workloads.

use super::field::{self, FieldError};
use crate::discovery::proto::workload as wds;
use std::{collections::BTreeMap, sync::Arc};
use weft_model::{
    Name, ServiceKey, Workload,
    workload::{Health, Hint, Hints, Kind, Locality, PortMapping, Profile, ServicePorts, Tunnel},
};

/// Istio elides the trust domain where it is the mesh's default.
const DEFAULT_TRUST_DOMAIN: &str = "cluster.local";
/// The extension of a workload that always encrypts.
const ALWAYS_ENCRYPT: &str = "weft.dev/always-encrypt";
/// The extension of a workload that is told to end and still serves.
const DRAINING: &str = "weft.dev/draining";
/// Istio elides the service account where it is this one.
const DEFAULT_SERVICE_ACCOUNT: &str = "default";

pub(super) fn from_wire(w: wds::Workload) -> Result<Workload, FieldError> {
    let tunnel = match field::enumeration("tunnel_protocol", w.tunnel_protocol)? {
        wds::TunnelProtocol::Hbone => Tunnel::Hbone,
        // A sidecar's own mTLS is its affair: from here it is spoken to as it is.
        wds::TunnelProtocol::None | wds::TunnelProtocol::LegacyIstioMtls => Tunnel::None,
    };
    let workload_type = match field::enumeration("workload_type", w.workload_type)? {
        wds::WorkloadType::Deployment => Kind::Deployment,
        wds::WorkloadType::Cronjob => Kind::CronJob,
        wds::WorkloadType::Pod => Kind::Pod,
        wds::WorkloadType::Job => Kind::Job,
    };
    let is_said = |name: &str| w.extensions.iter().any(|e| e.name == name);
    let health = match field::enumeration("status", w.status)? {
        wds::WorkloadStatus::Healthy => Health::Healthy,
        wds::WorkloadStatus::Unhealthy if is_said(DRAINING) => Health::Draining,
        wds::WorkloadStatus::Unhealthy => Health::Unhealthy,
    };
    let always_encrypt = is_said(ALWAYS_ENCRYPT);
    let mode: wds::NetworkMode = field::enumeration("network_mode", w.network_mode)?;
    let locality = w.locality.unwrap_or_default();
    let profile = Profile {
        namespace: w.namespace.into(),
        trust_domain: or(w.trust_domain, DEFAULT_TRUST_DOMAIN),
        service_account: or(w.service_account, DEFAULT_SERVICE_ACCOUNT),
        network: w.network.into(),
        tunnel,
        host_network: mode == wds::NetworkMode::HostNetwork,
        waypoint: w.waypoint.map(|g| field::gateway("waypoint", g)).transpose()?,
        network_gateway: w.network_gateway.map(|g| field::gateway("network_gateway", g)).transpose()?,
        workload_type,
        canonical_revision: w.canonical_revision.into(),
        cluster: w.cluster_id.into(),
        policies: w
            .authorization_policies
            .iter()
            .map(|p| p.parse().map_err(|_| FieldError::invalid("authorization_policies", p)))
            .collect::<Result<_, _>>()?,
        health,
        services: Arc::new(services(w.services)?),
        hints: hints(w.hints)?,
        locality: Locality {
            region: locality.region.into(),
            zone: locality.zone.into(),
            subzone: locality.subzone.into(),
        },
        always_encrypt,
    };
    Ok(Workload {
        uid: field::required("uid", w.uid)?,
        name: w.name.into(),
        addresses: w.addresses.iter().map(|a| field::ip("addresses", a)).collect::<Result<_, _>>()?,
        node: w.node.into(),
        workload_name: w.workload_name.into(),
        canonical_name: w.canonical_name.into(),
        profile: Arc::new(profile),
    })
}

fn or(s: String, default: &str) -> Name {
    if s.is_empty() { default.into() } else { s.into() }
}

fn services(services: BTreeMap<String, wds::PortList>) -> Result<ServicePorts, FieldError> {
    services
        .into_iter()
        .map(|(key, list)| {
            let key = key.parse().map_err(|_| FieldError::invalid("services", &key))?;
            let ports = list
                .ports
                .iter()
                .map(|p| {
                    Ok(PortMapping {
                        service_port: field::port("services.service_port", p.service_port)?,
                        target_port: field::port("services.target_port", p.target_port)?,
                    })
                })
                .collect::<Result<_, _>>()?;
            Ok((key, ports))
        })
        .collect()
}

fn hints(hints: Vec<wds::EndpointHint>) -> Result<Option<Arc<Hints>>, FieldError> {
    let one = |h: wds::EndpointHint| {
        let key = h.service.parse().map_err(|_| FieldError::invalid("hints.service", &h.service))?;
        let names = |names: Vec<String>| names.into_iter().map(Into::into).collect();
        Ok((key, Hint { zones: names(h.zones), nodes: names(h.nodes) }))
    };
    let hints = hints.into_iter().map(one).collect::<Result<Hints, _>>()?;
    Ok((!hints.is_empty()).then(|| Arc::new(hints)))
}

fn to_hints(hints: &Hints) -> Vec<wds::EndpointHint> {
    let names = |names: &[Name]| names.iter().map(ToString::to_string).collect();
    let one = |(service, hint): (&ServiceKey, &Hint)| wds::EndpointHint {
        service: service.to_string(),
        zones: names(&hint.zones),
        nodes: names(&hint.nodes),
    };
    hints.iter().map(one).collect()
}

fn extensions(w: &Workload) -> Vec<wds::Extension> {
    let said = [(ALWAYS_ENCRYPT, w.always_encrypt), (DRAINING, w.health == Health::Draining)];
    let said = said.into_iter().filter(|(_, yes)| *yes);
    said.map(|(name, _)| wds::Extension { name: name.to_owned() }).collect()
}

pub(super) fn to_wire(w: &Workload) -> wds::Workload {
    let locality = (w.locality != Locality::default()).then(|| wds::Locality {
        region: w.locality.region.to_string(),
        zone: w.locality.zone.to_string(),
        subzone: w.locality.subzone.to_string(),
    });
    wds::Workload {
        uid: w.uid.to_string(),
        name: w.name.to_string(),
        namespace: w.namespace.to_string(),
        trust_domain: w.trust_domain.to_string(),
        service_account: w.service_account.to_string(),
        network: w.network.to_string(),
        addresses: w.addresses.iter().map(|ip| field::ip_bytes(*ip)).collect(),
        hostname: String::new(),
        node: w.node.to_string(),
        tunnel_protocol: match w.tunnel {
            Tunnel::None => wds::TunnelProtocol::None,
            Tunnel::Hbone => wds::TunnelProtocol::Hbone,
        }
        .into(),
        network_mode: match w.host_network {
            false => wds::NetworkMode::Standard,
            true => wds::NetworkMode::HostNetwork,
        }
        .into(),
        waypoint: w.waypoint.as_ref().map(field::to_gateway),
        network_gateway: w.network_gateway.as_ref().map(field::to_gateway),
        workload_name: w.workload_name.to_string(),
        workload_type: match w.workload_type {
            Kind::Deployment => wds::WorkloadType::Deployment,
            Kind::CronJob => wds::WorkloadType::Cronjob,
            Kind::Pod => wds::WorkloadType::Pod,
            Kind::Job => wds::WorkloadType::Job,
        }
        .into(),
        canonical_name: w.canonical_name.to_string(),
        canonical_revision: w.canonical_revision.to_string(),
        cluster_id: w.cluster.to_string(),
        native_tunnel: false,
        authorization_policies: w.policies.iter().map(ToString::to_string).collect(),
        status: match w.health {
            Health::Healthy => wds::WorkloadStatus::Healthy,
            Health::Draining | Health::Unhealthy => wds::WorkloadStatus::Unhealthy,
        }
        .into(),
        services: w.services.iter().map(|(key, ports)| (key.to_string(), port_list(ports))).collect(),
        locality,
        extensions: extensions(w),
        hints: w.hints.as_deref().map(to_hints).unwrap_or_default(),
    }
}

fn port_list(ports: &[PortMapping]) -> wds::PortList {
    let port = |p: &PortMapping| wds::Port {
        service_port: p.service_port.into(),
        target_port: p.target_port.into(),
    };
    wds::PortList { ports: ports.iter().map(port).collect() }
}
