//! The addresses that a pod's namespace has, before control knows them.

use super::Netns;
use nix::{ifaddrs::getifaddrs, net::if_::InterfaceFlags, sys::socket::SockaddrStorage};
use std::net::{IpAddr, Ipv6Addr};

/// The addresses of the namespace by which others may reach it. None while it is being set up.
pub(super) fn own_addresses(netns: &Netns) -> Vec<IpAddr> {
    let read = netns.enter(|| {
        let all = getifaddrs()?;
        let others = all.filter(|i| !i.flags.contains(InterfaceFlags::IFF_LOOPBACK));
        Ok(others.filter_map(|i| ip(i.address?)).filter(is_reachable).collect::<Vec<_>>())
    });
    let mut found = read.unwrap_or_default();
    // As Kubernetes lists them where it has to choose: IPv4 first.
    found.sort_by_key(IpAddr::is_ipv6);
    found.dedup();
    found
}

fn ip(address: SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|a| IpAddr::from(a.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|a| IpAddr::from(a.ip())))
}

fn is_reachable(ip: &IpAddr) -> bool {
    let is_link_local = |ip: &Ipv6Addr| ip.segments()[0] & 0xffc0 == 0xfe80;
    match ip {
        IpAddr::V4(v4) => !v4.is_loopback() && !v4.is_link_local(),
        IpAddr::V6(v6) => !v6.is_loopback() && !is_link_local(v6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_the_pod_itself_could_reach_is_none_of_its_addresses() {
        for (ip, reachable) in [
            ("10.0.0.1", true),
            ("fd00::1", true),
            ("127.0.0.1", false),
            ("169.254.1.1", false),
            ("::1", false),
            ("fe80::1", false),
        ] {
            assert_eq!(is_reachable(&ip.parse().unwrap()), reachable, "{ip}");
        }
    }
}
