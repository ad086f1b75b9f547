//! Addresses as the maps hold them.

/// An IPv6 address, or an IPv4 one in its v4-mapped form, as four words in network byte order.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Addr {
    /// The words, first to last, each as it lies in memory.
    pub words: [u32; 4],
}

/// The third word of a v4-mapped address.
const MAPPED: u32 = 0xffff_u32.to_be();

impl Addr {
    /// The v4-mapped form of an IPv4 address given in network byte order.
    #[inline(always)]
    pub const fn v4(be: u32) -> Self {
        Self { words: [0, 0, MAPPED, be] }
    }

    /// Whether it stands for an IPv4 address.
    #[inline(always)]
    pub const fn is_v4(&self) -> bool {
        self.words[0] == 0 && self.words[1] == 0 && self.words[2] == MAPPED
    }

    /// Whether it is `127.0.0.0/8` or `::1`.
    #[inline(always)]
    pub const fn is_loopback(&self) -> bool {
        if self.is_v4() {
            u32::from_be(self.words[3]) >> 24 == 127
        } else {
            self.words[0] == 0 && self.words[1] == 0 && self.words[2] == 0 && self.words[3] == 1_u32.to_be()
        }
    }

    /// Whether it is `0.0.0.0` or `::`; connecting there means the loopback.
    #[inline(always)]
    pub const fn is_unspecified(&self) -> bool {
        self.words[0] == 0 && self.words[1] == 0 && (self.words[2] == 0 || self.is_v4()) && self.words[3] == 0
    }
}

impl From<core::net::IpAddr> for Addr {
    fn from(ip: core::net::IpAddr) -> Self {
        let octets = match ip {
            core::net::IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
            core::net::IpAddr::V6(v6) => v6.octets(),
        };
        let word = |i: usize| u32::from_ne_bytes([octets[i], octets[i + 1], octets[i + 2], octets[i + 3]]);
        Self { words: [word(0), word(4), word(8), word(12)] }
    }
}

impl From<Addr> for core::net::IpAddr {
    fn from(addr: Addr) -> Self {
        let mut octets = [0; 16];
        for (bytes, word) in octets.chunks_exact_mut(4).zip(addr.words) {
            bytes.copy_from_slice(&word.to_ne_bytes());
        }
        core::net::IpAddr::from(octets).to_canonical()
    }
}

/// An address and a port.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoint {
    /// The address.
    pub addr: Addr,
    /// The port, in host order; 0 where there is no endpoint.
    pub port: u16,
    /// Zero.
    pub pad: u16,
}

impl Endpoint {
    /// The endpoint of `addr` and `port`.
    #[inline(always)]
    pub const fn new(addr: Addr, port: u16) -> Self {
        Self { addr, port, pad: 0 }
    }
}

impl From<core::net::SocketAddr> for Endpoint {
    fn from(at: core::net::SocketAddr) -> Self {
        Self::new(at.ip().into(), at.port())
    }
}

impl From<Endpoint> for core::net::SocketAddr {
    fn from(at: Endpoint) -> Self {
        Self::new(at.addr.into(), at.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::{IpAddr, SocketAddr};

    fn addr(s: &str) -> Addr {
        s.parse::<IpAddr>().unwrap().into()
    }

    #[test]
    fn addresses_round_trip_and_mapped_ones_are_ipv4() {
        for s in ["10.1.2.3:80", "[fd00::1:2]:65535"] {
            let at: SocketAddr = s.parse().unwrap();
            assert_eq!(SocketAddr::from(Endpoint::from(at)), at);
        }
        assert_eq!(addr("::ffff:10.1.2.3"), addr("10.1.2.3"));
        assert_eq!(addr("10.1.2.3"), Addr::v4(u32::from_ne_bytes([10, 1, 2, 3])));
        assert!(addr("10.1.2.3").is_v4());
        assert!(!addr("fd00::1").is_v4());
    }

    #[test]
    fn loopback_and_unspecified() {
        for s in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            assert!(addr(s).is_loopback(), "{s}");
        }
        for s in ["128.0.0.1", "::2", "fd00::1", "0.0.0.0", "::"] {
            assert!(!addr(s).is_loopback(), "{s}");
        }
        for s in ["0.0.0.0", "::"] {
            assert!(addr(s).is_unspecified(), "{s}");
        }
        assert!(!addr("10.0.0.0").is_unspecified());
        assert!(!addr("::1").is_unspecified());
    }
}
