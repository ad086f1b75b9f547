//! Addresses from outside of the mesh that lead to services: a load balancer's, and `externalIPs`.
//!
//! Several services may share one, each with ports of its own. Where they meet in a port, what a load balancer's status says
//! counts before what anybody may write into a spec; among equals nobody gets it, and the address stays kube-proxy's.

use crate::facts::{External, Key};
use rustc_hash::FxHashMap;
use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

/// What a service has at an address.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Claim {
    from_status: bool,
    ports: Vec<u16>,
}

/// Who is reached at which address.
#[derive(Debug, Default)]
pub(crate) struct Externals {
    at: FxHashMap<IpAddr, BTreeMap<Key, Claim>>,
}

impl Externals {
    /// Puts `service` at `new` in place of `old`; answers those that share one of these addresses with it.
    pub(crate) fn place(
        &mut self,
        service: &Key,
        old: &[External],
        (new, ports): (&[External], &[u16]),
    ) -> BTreeSet<Key> {
        let mut others = BTreeSet::new();
        for external in old {
            if let Some(claims) = self.at.get_mut(&external.ip) {
                claims.remove(service);
                others.extend(claims.keys().cloned());
                if claims.is_empty() {
                    self.at.remove(&external.ip);
                }
            }
        }
        for external in new {
            let claims = self.at.entry(external.ip).or_default();
            others.extend(claims.keys().cloned());
            let claim = Claim { from_status: external.from_status, ports: ports.to_vec() };
            claims.insert(service.clone(), claim);
        }
        others.remove(service);
        others
    }

    /// Who keeps `service` from being reached at `ip`.
    pub(crate) fn rival(&self, service: &Key, ip: &IpAddr) -> Option<&Key> {
        let claims = self.at.get(ip)?;
        let own = claims.get(service)?;
        let meets = |other: &Claim| {
            other.from_status >= own.from_status && own.ports.iter().any(|port| other.ports.contains(port))
        };
        claims.iter().find(|(key, other)| *key != service && meets(other)).map(|(key, _)| key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        ("shop".into(), name.into())
    }

    #[test]
    fn an_address_is_shared_by_ports_and_the_status_goes_first() {
        let ip: IpAddr = "192.0.2.1".parse().unwrap();
        let at = |from_status| [External { ip, from_status }];
        let mut externals = Externals::default();
        assert!(externals.place(&key("a"), &[], (&at(true), &[80])).is_empty());
        assert_eq!(externals.place(&key("b"), &[], (&at(true), &[443])), [key("a")].into());
        assert_eq!((externals.rival(&key("a"), &ip), externals.rival(&key("b"), &ip)), (None, None));
        externals.place(&key("b"), &at(true), (&at(true), &[443, 80]));
        assert_eq!(externals.rival(&key("a"), &ip), Some(&key("b")));
        assert_eq!(externals.rival(&key("b"), &ip), Some(&key("a")));
        externals.place(&key("b"), &at(true), (&at(false), &[80]));
        assert_eq!(externals.rival(&key("a"), &ip), None, "nobody takes it by writing it down");
        assert_eq!(externals.rival(&key("b"), &ip), Some(&key("a")));
        assert_eq!(externals.place(&key("a"), &at(true), (&[], &[])), [key("b")].into());
        assert_eq!(externals.rival(&key("b"), &ip), None);
        externals.place(&key("b"), &at(false), (&[], &[]));
        assert!(externals.at.is_empty());
    }
}
