//! Who owns which address. The first to claim one keeps it until it lets go; the next in line then gets it.

use rustc_hash::FxHashMap;
use weft_api::ObjectKey;
use weft_model::NetworkAddress;

/// Every claim to every address.
#[derive(Debug, Default)]
pub(crate) struct Claims {
    /// The owner first, the others in the order in which they came.
    lines: FxHashMap<NetworkAddress, Vec<ObjectKey>>,
    claimed: FxHashMap<ObjectKey, Vec<NetworkAddress>>,
}

/// What came of a claim.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Ruling {
    /// The addresses that are the claimant's.
    pub granted: Vec<NetworkAddress>,
    /// The addresses that are another's, and whose.
    pub contested: Vec<(NetworkAddress, ObjectKey)>,
    /// Who owns an address now that the claimant let go of.
    pub promoted: Vec<ObjectKey>,
}

impl Claims {
    /// Claims exactly `addresses` for `who`; what it claimed before and not now, it lets go of.
    pub(crate) fn claim(&mut self, who: &ObjectKey, addresses: Vec<NetworkAddress>) -> Ruling {
        let mut ruling = Ruling::default();
        for old in self.claimed.remove(who).unwrap_or_default() {
            if !addresses.contains(&old) {
                ruling.promoted.extend(self.leave(who, &old));
            }
        }
        for address in &addresses {
            let line = self.lines.entry(address.clone()).or_default();
            if !line.contains(who) {
                line.push(who.clone());
            }
            if line[0] == *who {
                ruling.granted.push(address.clone());
            } else {
                ruling.contested.push((address.clone(), line[0].clone()));
            }
        }
        if !addresses.is_empty() {
            self.claimed.insert(who.clone(), addresses);
        }
        ruling
    }

    /// Takes `who` out of the line for `address`; answers the new owner where that changed.
    fn leave(&mut self, who: &ObjectKey, address: &NetworkAddress) -> Option<ObjectKey> {
        let line = self.lines.get_mut(address)?;
        let was_owner = line.first() == Some(who);
        line.retain(|k| k != who);
        let next = line.first().cloned();
        if line.is_empty() {
            self.lines.remove(address);
        }
        next.filter(|_| was_owner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weft_api::Kind;

    fn pod(name: &str) -> ObjectKey {
        ObjectKey { kind: Kind::Pod, namespace: "shop".into(), name: name.into() }
    }

    fn ip(s: &str) -> NetworkAddress {
        NetworkAddress::new("".into(), s.parse().unwrap())
    }

    #[test]
    fn the_first_keeps_it_and_the_next_inherits() {
        let mut claims = Claims::default();
        let (a, b) = (ip("10.0.0.1"), ip("10.0.0.2"));
        assert_eq!(claims.claim(&pod("x"), vec![a.clone(), b.clone()]).granted, [a.clone(), b.clone()]);
        let second = claims.claim(&pod("y"), vec![a.clone()]);
        assert_eq!(second.contested, [(a.clone(), pod("x"))]);
        // Claiming again changes nothing.
        assert_eq!(claims.claim(&pod("x"), vec![a.clone(), b.clone()]).granted.len(), 2);
        let third = claims.claim(&pod("x"), vec![b.clone()]);
        assert_eq!(third.promoted, [pod("y")]);
        assert_eq!(claims.claim(&pod("y"), vec![a.clone()]).granted, [a]);
        assert!(claims.claim(&pod("x"), vec![]).promoted.is_empty());
        assert_eq!(claims.lines.len(), 1);
    }
}
