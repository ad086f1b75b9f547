//! Names as people write them, turned into workloads and addresses.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};
use weft_model::{Snapshot, Workload, clip, snapshot::ServiceEntry};

/// Why a name stands for nothing that can be asked about.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unresolved {
    /// Not `namespace/name`.
    #[error("`{0}` does not name a pod: write NAMESPACE/NAME")]
    NotAPod(String),
    /// No such pod.
    #[error("there is no pod {0} in what this agent knows; `weft-agent workloads` lists them")]
    NoPod(String),
    /// No port, or not a number.
    #[error("`{0}` does not say where to: write HOST:PORT, e.g. web:80, shop/web-0:8080 or 10.0.0.7:443")]
    NoPort(String),
    /// Neither an address nor a service nor a pod.
    #[error(
        "`{0}` is no address, and no service or pod that this agent knows; `weft-agent services` and `weft-agent \
         workloads` list them"
    )]
    NoHost(String),
    /// A bare name that stands for several services.
    #[error("`{0}` may be any of {1}: write NAME.NAMESPACE")]
    Ambiguous(String, String),
    /// Known, but without an address.
    #[error("`{0}` has no address to connect to")]
    NoAddress(String),
}

/// The pod `namespace/name`.
pub fn pod(snapshot: &Snapshot, name: &str) -> Result<Arc<Workload>, Unresolved> {
    let (namespace, pod) = name
        .split_once('/')
        .filter(|(n, p)| !n.is_empty() && !p.is_empty())
        .ok_or_else(|| Unresolved::NotAPod(clip(name)))?;
    snapshot
        .workload_of_pod(&namespace.into(), &pod.into())
        .cloned()
        .ok_or_else(|| Unresolved::NoPod(clip(name)))
}

/// The address that `source` means by `to`: an address, a pod or a service, with a port.
pub fn target(snapshot: &Snapshot, source: &Workload, to: &str) -> Result<SocketAddr, Unresolved> {
    if let Ok(address) = to.parse::<SocketAddr>() {
        return Ok(weft_model::address::canonical(address));
    }
    let (host, port) = to
        .rsplit_once(':')
        .and_then(|(host, port)| Some((host, port.parse::<u16>().ok().filter(|p| *p != 0)?)))
        .ok_or_else(|| Unresolved::NoPort(clip(to)))?;
    let ip = if host.contains('/') {
        let workload = pod(snapshot, host)?;
        address_of(&workload.addresses, source).ok_or_else(|| Unresolved::NoAddress(clip(host)))?
    } else {
        let service = service(snapshot, source, host)?;
        address_of_service(&service, source).ok_or_else(|| Unresolved::NoAddress(clip(host)))?
    };
    Ok(SocketAddr::new(ip, port))
}

/// A service by host name, `name.namespace`, or name alone: then the client's own namespace goes first, as in its DNS
/// search path.
fn service(snapshot: &Snapshot, source: &Workload, host: &str) -> Result<Arc<ServiceEntry>, Unresolved> {
    let host = host.trim_end_matches('.');
    let named = |s: &ServiceEntry| {
        let key = &s.service.key;
        let short = host.strip_suffix(".svc").unwrap_or(host);
        *key.hostname == *host
            || short.split_once('.').is_some_and(|(n, ns)| *s.service.name == *n && *key.namespace == *ns)
            || *s.service.name == *host
    };
    let mut found: Vec<_> = snapshot.services().filter(|s| named(s)).cloned().collect();
    if found.len() > 1
        && let Some(own) = found.iter().position(|s| s.service.key.namespace == source.namespace)
    {
        found = vec![found.swap_remove(own)];
    }
    match found.len() {
        0 => Err(Unresolved::NoHost(clip(host))),
        1 => Ok(found.swap_remove(0)),
        _ => {
            let mut names: Vec<_> =
                found.iter().map(|s| format!("{}.{}", s.service.name, s.service.key.namespace)).collect();
            names.sort();
            Err(Unresolved::Ambiguous(clip(host), clip(&names.join(", "))))
        }
    }
}

/// A virtual address of the service; of a headless one, an endpoint's address, as DNS would give.
fn address_of_service(service: &ServiceEntry, source: &Workload) -> Option<IpAddr> {
    let vips: Vec<_> =
        service.service.addresses.iter().filter(|a| a.network == source.network).map(|a| a.ip).collect();
    address_of(&vips, source).or_else(|| {
        service.endpoints.pickable().iter().find_map(|e| address_of(&e.workload.addresses, source))
    })
}

/// The address of the family that `source` prefers: that of its own first address.
fn address_of(addresses: &[IpAddr], source: &Workload) -> Option<IpAddr> {
    let v4 = source.addresses.first().is_none_or(IpAddr::is_ipv4);
    addresses.iter().find(|ip| ip.is_ipv4() == v4).or(addresses.first()).copied()
}
