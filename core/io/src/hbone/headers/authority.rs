//! `:authority` of a CONNECT: where the tunnel shall lead.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    str::FromStr,
};

/// The longest host name of the DNS, in bytes.
const LONGEST_HOST: usize = 253;

/// The target of a CONNECT: `ip:port`, `[v6]:port` or `host:port`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Authority {
    /// An address, in canonical form.
    Ip(SocketAddr),
    /// A host name and a port, as used across networks.
    Host(Box<str>, u16),
}

/// Why a text is not an authority.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadAuthority {
    /// No `:port` at the end.
    #[error("the authority has no port")]
    NoPort,
    /// The port is not a number from 1 to 65535.
    #[error("the authority's port is not a number from 1 to 65535")]
    BadPort,
    /// The host is neither an address nor a host name.
    #[error("the authority's host is neither an address nor a host name")]
    BadHost,
}

impl Authority {
    /// The port of the target.
    pub fn port(&self) -> u16 {
        match self {
            Authority::Ip(addr) => addr.port(),
            Authority::Host(_, port) => *port,
        }
    }
}

impl From<SocketAddr> for Authority {
    fn from(addr: SocketAddr) -> Self {
        Self::Ip(weft_model::address::canonical(addr))
    }
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Authority::Ip(addr) => addr.fmt(f),
            Authority::Host(host, port) => write!(f, "{host}:{port}"),
        }
    }
}

impl FromStr for Authority {
    type Err = BadAuthority;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let (host, port) = s.rsplit_once(':').ok_or(BadAuthority::NoPort)?;
        let port = parse_port(port).ok_or(BadAuthority::BadPort)?;
        if let Some(v6) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            let ip: Ipv6Addr = v6.parse().map_err(|_| BadAuthority::BadHost)?;
            return Ok(SocketAddr::new(ip.into(), port).into());
        }
        match host.parse() {
            Ok(IpAddr::V4(ip)) => Ok(Self::Ip(SocketAddr::new(ip.into(), port))),
            Ok(IpAddr::V6(_)) => Err(BadAuthority::BadHost),
            Err(_) if is_host(host) => Ok(Self::Host(host.to_ascii_lowercase().into(), port)),
            Err(_) => Err(BadAuthority::BadHost),
        }
    }
}

/// A decimal port without sign or superfluous zeros; 0 is none.
pub(super) fn parse_port(s: &str) -> Option<u16> {
    let plain = s.bytes().all(|b| b.is_ascii_digit()) && !s.starts_with('0');
    plain.then(|| s.parse().ok()).flatten()
}

fn is_host(s: &str) -> bool {
    s.len() <= LONGEST_HOST && s.split('.').all(is_label) && !ends_in_a_number(s)
}

/// Whether a resolver may read `host` as an IPv4 address, some of which take `127.1` and `0x7f.1` for one: the rule by
/// which the WHATWG URL standard keeps names and addresses apart, where anything after `0x` counts as a number.
fn ends_in_a_number(host: &str) -> bool {
    let last = host.rsplit('.').next().unwrap_or_default();
    let hex = last.get(..2).is_some_and(|start| start.eq_ignore_ascii_case("0x"));
    hex || last.bytes().all(|b| b.is_ascii_digit())
}

fn is_label(s: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    (1..=63).contains(&s.len()) && !s.starts_with('-') && !s.ends_with('-') && s.bytes().all(inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips() {
        for s in [
            "10.0.0.1:80",
            "[fd00::1]:65535",
            "web.shop.svc.cluster.local:8080",
            "_srv.a:1",
            "10.0x.web:1",
            "web0x:1",
        ] {
            assert_eq!(s.parse::<Authority>().unwrap().to_string(), s);
        }
    }

    #[test]
    fn mapped_addresses_and_capitals_are_made_canonical() {
        assert_eq!("[::ffff:10.0.0.1]:80".parse(), Ok(Authority::Ip("10.0.0.1:80".parse().unwrap())));
        assert_eq!("Web.Shop:80".parse(), Ok(Authority::Host("web.shop".into(), 80)));
    }

    #[test]
    fn refuses_what_is_not_one() {
        use BadAuthority::*;
        for (s, why) in [
            ("", NoPort),
            ("10.0.0.1", NoPort),
            ("10.0.0.1:", BadPort),
            ("10.0.0.1:0", BadPort),
            ("10.0.0.1:080", BadPort),
            ("10.0.0.1:+80", BadPort),
            ("10.0.0.1:65536", BadPort),
            (":80", BadHost),
            ("fd00::1:80", BadHost),
            ("[10.0.0.1]:80", BadHost),
            ("[fd00::1:80", BadHost),
            ("[fe80::1%eth0]:80", BadHost),
            ("10.0.0:80", BadHost),
            ("300.0.0.1:80", BadHost),
            ("0x7f.1:80", BadHost),
            ("127.0.0.0X1:80", BadHost),
            ("0x7f000001:80", BadHost),
            ("web.shop.1:80", BadHost),
            ("user@web:80", BadHost),
            ("-web:80", BadHost),
            ("web..shop:80", BadHost),
            ("wéb:80", BadHost),
        ] {
            assert_eq!(s.parse::<Authority>(), Err(why), "{s}");
        }
        assert_eq!(format!("{}:80", "a".repeat(254)).parse::<Authority>(), Err(BadHost));
    }
}
