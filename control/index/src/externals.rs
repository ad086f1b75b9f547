//! Addresses from outside of the mesh that lead to services: a load balancer's, and `externalIPs`.
//!
//! Several services may share one, each with ports of its own. Where they meet in a port, what a load balancer's status says
//! counts before what anybody may write into a spec; among equals nobody gets it, and the address stays kube-proxy's.

use crate::facts::{External, Key, ServiceFacts};
use rustc_hash::FxHashMap;
use std::{collections::BTreeSet, net::IpAddr};

/// Who is reached at one address and port.
#[derive(Debug, Default)]
struct Claims {
    /// By their load balancers.
    by_status: BTreeSet<Key>,
    /// By what their specs say.
    by_spec: BTreeSet<Key>,
}

impl Claims {
    fn like(&mut self, external: &External) -> &mut BTreeSet<Key> {
        if external.from_status { &mut self.by_status } else { &mut self.by_spec }
    }

    /// Who gets it: nobody, or one. However many there are, a change of them concerns no more than these before and after.
    fn winner(&self) -> Option<&Key> {
        let first = if self.by_status.is_empty() { &self.by_spec } else { &self.by_status };
        first.first().filter(|_| first.len() == 1)
    }

    /// One of those that keep `service` from it.
    fn rival(&self, service: &Key, external: &External) -> Option<&Key> {
        let by_spec = (!external.from_status).then_some(&self.by_spec).into_iter().flatten();
        self.by_status.iter().chain(by_spec).find(|key| *key != service)
    }
}

/// Who is reached at which address and port.
#[derive(Debug, Default)]
pub(crate) struct Externals {
    at: FxHashMap<(IpAddr, u16), Claims>,
}

impl Externals {
    /// Puts `service` where it is now in place of where it was; answers the others that get an address by that, or lose it.
    pub(crate) fn place(
        &mut self,
        service: &Key,
        old: Option<&ServiceFacts>,
        new: Option<&ServiceFacts>,
    ) -> BTreeSet<Key> {
        let mut others = BTreeSet::new();
        for (facts, here) in [(old, false), (new, true)] {
            for (external, port) in facts.into_iter().flat_map(reached) {
                let claims = self.at.entry((external.ip, port)).or_default();
                others.extend(claims.winner().cloned());
                match here {
                    true => claims.like(external).insert(service.clone()),
                    false => claims.like(external).remove(service),
                };
                others.extend(claims.winner().cloned());
                if claims.by_status.is_empty() && claims.by_spec.is_empty() {
                    self.at.remove(&(external.ip, port));
                }
            }
        }
        others.remove(service);
        others
    }

    /// Who keeps a service from being reached at one of its addresses.
    pub(crate) fn rival(&self, service: &ServiceFacts, external: &External) -> Option<&Key> {
        let claims = service.ports.iter().filter_map(|p| self.at.get(&(external.ip, p.port)));
        claims.into_iter().find_map(|claims| claims.rival(&service.key, external))
    }
}

/// Where a service is reached.
fn reached(service: &ServiceFacts) -> impl Iterator<Item = (&External, u16)> {
    service.externals.iter().flat_map(|e| service.ports.iter().map(move |p| (e, p.port)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn key(name: &str) -> Key {
        ("shop".into(), name.into())
    }

    /// A service at 192.0.2.1.
    fn service(name: &str, from_status: bool, ports: &[u16]) -> ServiceFacts {
        let ports: Vec<Value> = ports.iter().map(|p| json!({"port": p, "name": p.to_string()})).collect();
        let at = if from_status { json!([]) } else { json!(["192.0.2.1"]) };
        let ingress = if from_status { json!([{"ip": "192.0.2.1"}]) } else { json!([]) };
        let object = json!({
            "metadata": {"name": name, "namespace": "shop"},
            "spec": {"type": "LoadBalancer", "clusterIP": "10.1.0.1", "externalIPs": at, "ports": ports},
            "status": {"loadBalancer": {"ingress": ingress}}
        });
        ServiceFacts::digest(key(name), &serde_json::from_value(object).unwrap()).unwrap().0
    }

    #[test]
    fn an_address_is_shared_by_ports_and_the_status_goes_first() {
        let mut externals = Externals::default();
        let rival = |externals: &Externals, s: &ServiceFacts| {
            externals.rival(s, &s.externals[0]).map(|(_, name)| name.clone())
        };
        let (a, b) = (service("a", true, &[80]), service("b", true, &[443]));
        assert!(externals.place(&key("a"), None, Some(&a)).is_empty());
        assert!(externals.place(&key("b"), None, Some(&b)).is_empty(), "nothing changes for a");
        assert_eq!((rival(&externals, &a), rival(&externals, &b)), (None, None));
        let both = service("b", true, &[443, 80]);
        assert_eq!(externals.place(&key("b"), Some(&b), Some(&both)), [key("a")].into());
        assert_eq!((rival(&externals, &a), rival(&externals, &both)), (Some("b".into()), Some("a".into())));
        let third = service("c", true, &[80]);
        assert!(externals.place(&key("c"), None, Some(&third)).is_empty(), "nobody had it any more");
        externals.place(&key("c"), Some(&third), None);
        let thief = service("b", false, &[80]);
        assert_eq!(externals.place(&key("b"), Some(&both), Some(&thief)), [key("a")].into());
        assert_eq!(rival(&externals, &a), None, "nobody takes it by writing it down");
        assert_eq!(rival(&externals, &thief), Some("a".into()));
        assert_eq!(externals.place(&key("a"), Some(&a), None), [key("b")].into());
        assert_eq!(rival(&externals, &thief), None);
        externals.place(&key("b"), Some(&thief), None);
        assert!(externals.at.is_empty());
    }
}
