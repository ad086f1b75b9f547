//! Addresses: an IP within a named network.

use crate::Name;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

/// An IP address within a network.
///
/// Networks are Istio's: two pods of different networks may carry the same IP, and reach each other only through a
/// gateway. The empty name is the default network.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NetworkAddress {
    /// The network; empty is the default one.
    pub network: Name,
    /// The address, never a v4-mapped IPv6 one.
    pub ip: IpAddr,
}

impl NetworkAddress {
    /// An address of `network`; a v4-mapped IPv6 address becomes the IPv4 address it stands for.
    pub fn new(network: Name, ip: IpAddr) -> Self {
        Self { network, ip: ip.to_canonical() }
    }
}

impl fmt::Display for NetworkAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.ip)
    }
}

/// `addr` with a v4-mapped IPv6 address (`::ffff:10.0.0.1`) turned into the IPv4 address it stands for.
///
/// Dual-stack sockets report IPv4 peers in the mapped form; everything in this crate compares canonical addresses.
pub fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

/// `block` with a v4-mapped IPv6 block (`::ffff:10.0.0.0/104`) turned into the IPv4 block it stands for: clients are
/// compared in canonical form, of which a mapped block holds none. `None` for a mapped address with a prefix so short that
/// the block would also hold addresses that stand for nothing.
pub fn canonical_block(block: IpNet) -> Option<IpNet> {
    match block.addr().to_canonical() {
        ip @ IpAddr::V4(_) if block.addr().is_ipv6() => {
            IpNet::new(ip, block.prefix_len().checked_sub(96)?).ok()
        }
        _ => Some(block),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mapped_addresses_are_made_canonical() {
        let mapped: SocketAddr = "[::ffff:10.0.0.1]:80".parse().unwrap();
        assert_eq!(canonical(mapped), "10.0.0.1:80".parse().unwrap());
        let a = NetworkAddress::new("".into(), "::ffff:10.0.0.1".parse().unwrap());
        assert_eq!(a.ip, "10.0.0.1".parse::<IpAddr>().unwrap());
        let v6: SocketAddr = "[fd00::1]:80".parse().unwrap();
        assert_eq!(canonical(v6), v6);
    }

    #[test]
    fn mapped_blocks_are_made_canonical() {
        let canonical = |block: &str| canonical_block(block.parse().unwrap()).map(|b| b.to_string());
        assert_eq!(canonical("::ffff:10.0.0.0/104").as_deref(), Some("10.0.0.0/8"));
        assert_eq!(canonical("::ffff:10.0.0.1/128").as_deref(), Some("10.0.0.1/32"));
        assert_eq!(canonical("::ffff:0.0.0.0/96").as_deref(), Some("0.0.0.0/0"));
        assert_eq!(canonical("::ffff:10.0.0.0/95"), None);
        for plain in ["10.0.0.0/8", "fd00::/8", "::/0"] {
            assert_eq!(canonical(plain).as_deref(), Some(plain));
        }
    }
}
