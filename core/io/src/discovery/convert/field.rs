//! Single fields: each parser names the field that it refuses.

use crate::discovery::proto::workload as wds;
use ipnet::IpNet;
use std::{fmt, net::IpAddr};
use weft_model::{
    Name, NetworkAddress, ServiceKey,
    address::canonical_block,
    clip,
    workload::{Gateway, GatewayDestination},
};

/// The port on which gateways accept HBONE where nothing else is said.
const HBONE_PORT: u16 = 15008;

/// What is wrong with a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FieldError {
    /// It must be there.
    Missing {
        /// Its path.
        field: &'static str,
    },
    /// It holds what it must not.
    Invalid {
        /// Its path.
        field: &'static str,
        /// What it holds, shortened.
        value: String,
    },
}

impl FieldError {
    pub(super) fn missing(field: &'static str) -> Self {
        Self::Missing { field }
    }

    pub(super) fn invalid(field: &'static str, value: &(impl fmt::Display + ?Sized)) -> Self {
        Self::Invalid { field, value: clip(value) }
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { field } => write!(f, "field `{field}` is missing"),
            Self::Invalid { field, value } => write!(f, "field `{field}` has the invalid value `{value}`"),
        }
    }
}

impl std::error::Error for FieldError {}

pub(super) fn required(field: &'static str, s: String) -> Result<Name, FieldError> {
    if s.is_empty() { Err(FieldError::missing(field)) } else { Ok(s.into()) }
}

/// A part of a key of the form `<namespace>/<name>`; with a slash in it, the key would read as another one.
pub(super) fn key_part(field: &'static str, s: String) -> Result<Name, FieldError> {
    if s.contains('/') { Err(FieldError::invalid(field, &s)) } else { required(field, s) }
}

pub(super) fn port(field: &'static str, port: u32) -> Result<u16, FieldError> {
    u16::try_from(port).map_err(|_| FieldError::invalid(field, &port))
}

pub(super) fn enumeration<E: TryFrom<i32>>(field: &'static str, value: i32) -> Result<E, FieldError> {
    E::try_from(value).map_err(|_| FieldError::invalid(field, &value))
}

pub(super) fn ip(field: &'static str, bytes: &[u8]) -> Result<IpAddr, FieldError> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Ok(IpAddr::from(v4));
    }
    let v6 = <[u8; 16]>::try_from(bytes)
        .map_err(|_| FieldError::invalid(field, &format_args!("{} bytes", bytes.len())))?;
    Ok(IpAddr::from(v6).to_canonical())
}

pub(super) fn ip_bytes(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

pub(super) fn network(field: &'static str, bytes: &[u8], length: u32) -> Result<IpNet, FieldError> {
    // A mapped network's length counts from the start of its sixteen bytes, so it becomes canonical together with it.
    let ip = match <[u8; 16]>::try_from(bytes) {
        Ok(v6) => IpAddr::from(v6),
        Err(_) => ip(field, bytes)?,
    };
    u8::try_from(length)
        .ok()
        .and_then(|l| IpNet::new(ip, l).ok())
        .and_then(canonical_block)
        .ok_or_else(|| FieldError::invalid(field, &format_args!("{ip}/{length}")))
}

pub(super) fn address(field: &'static str, a: &wds::NetworkAddress) -> Result<NetworkAddress, FieldError> {
    let ip = ip(field, &a.address)?;
    let whole = if ip.is_ipv4() { 32 } else { 128 };
    match a.length {
        Some(length) if length != whole => Err(FieldError::invalid(field, &format_args!("{ip}/{length}"))),
        _ => Ok(NetworkAddress::new(a.network.as_str().into(), ip)),
    }
}

pub(super) fn to_address(a: &NetworkAddress) -> wds::NetworkAddress {
    wds::NetworkAddress { network: a.network.to_string(), address: ip_bytes(a.ip), length: None }
}

pub(super) fn gateway(field: &'static str, g: wds::GatewayAddress) -> Result<Gateway, FieldError> {
    use wds::gateway_address::Destination;
    let destination = match g.destination {
        None => return Err(FieldError::missing(field)),
        Some(Destination::Address(a)) => GatewayDestination::Address(address(field, &a)?),
        Some(Destination::Hostname(h)) => GatewayDestination::Service(ServiceKey {
            namespace: key_part(field, h.namespace)?,
            hostname: key_part(field, h.hostname)?,
        }),
    };
    let hbone_port = match port(field, g.hbone_mtls_port)? {
        0 => HBONE_PORT,
        port => port,
    };
    Ok(Gateway { destination, hbone_port })
}

pub(super) fn to_gateway(g: &Gateway) -> wds::GatewayAddress {
    use wds::gateway_address::Destination;
    let destination = match &g.destination {
        GatewayDestination::Address(a) => Destination::Address(to_address(a)),
        GatewayDestination::Service(k) => Destination::Hostname(wds::NamespacedHostname {
            namespace: k.namespace.to_string(),
            hostname: k.hostname.to_string(),
        }),
    };
    wds::GatewayAddress { destination: Some(destination), hbone_mtls_port: g.hbone_port.into() }
}
