//! `forwarded` (RFC 7239): who the tunnel speaks for.

use super::authority::parse_port;
use std::{
    fmt,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    str::FromStr,
};

/// The longest value that is read, in bytes.
const LONGEST: usize = 1024;

/// The original client, from the first element's `for=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forwarded {
    /// Its address, in canonical form.
    pub ip: IpAddr,
    /// Its port, where the sender gave it.
    pub port: Option<u16>,
}

/// Why a `forwarded` value cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadForwarded {
    /// It is longer than anyone needs.
    #[error("the forwarded header is longer than {LONGEST} bytes")]
    TooLong,
    /// It does not follow RFC 7239.
    #[error("the forwarded header is malformed")]
    Malformed,
    /// The first element has no `for`.
    #[error("the forwarded header does not say for whom")]
    NoFor,
    /// `for` is not an address (`unknown`, or a made-up name).
    #[error("the forwarded header's client is not an address")]
    NotAnAddress,
}

impl From<SocketAddr> for Forwarded {
    fn from(addr: SocketAddr) -> Self {
        Self { ip: addr.ip().to_canonical(), port: Some(addr.port()) }
    }
}

impl fmt::Display for Forwarded {
    /// The header's value: always quoted, which RFC 7239 demands wherever there is a colon.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.ip, self.port) {
            (ip, Some(port)) => write!(f, "for=\"{}\"", SocketAddr::new(ip, port)),
            (IpAddr::V4(ip), None) => write!(f, "for=\"{ip}\""),
            (IpAddr::V6(ip), None) => write!(f, "for=\"[{ip}]\""),
        }
    }
}

impl FromStr for Forwarded {
    type Err = BadForwarded;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        if s.len() > LONGEST {
            return Err(BadForwarded::TooLong);
        }
        // A quote in a later element cannot hide a comma of the first, so that reading the first alone is sound.
        let mut rest = s.trim_matches([' ', '\t']);
        let mut found = None;
        loop {
            let (name, after) = rest.split_once('=').ok_or(BadForwarded::Malformed)?;
            let (value, after) = take_value(after)?;
            if name.is_empty() || !name.bytes().all(is_token) {
                return Err(BadForwarded::Malformed);
            }
            if name.eq_ignore_ascii_case("for") && found.replace(value).is_some() {
                return Err(BadForwarded::Malformed);
            }
            match after.trim_start_matches([' ', '\t']).split_at_checked(1) {
                None | Some((",", _)) => break,
                Some((";", next)) => rest = next.trim_start_matches([' ', '\t']),
                Some(_) => return Err(BadForwarded::Malformed),
            }
        }
        parse_node(found.ok_or(BadForwarded::NoFor)?).ok_or(BadForwarded::NotAnAddress)
    }
}

/// The value at the start of `s`, without its quotes, and what follows it.
fn take_value(s: &str) -> Result<(&str, &str), BadForwarded> {
    if let Some(quoted) = s.strip_prefix('"') {
        let (value, after) = quoted.split_once('"').ok_or(BadForwarded::Malformed)?;
        // An address needs no escapes; where there is one, the quote found may be an escaped one.
        if value.contains('\\') { Err(BadForwarded::Malformed) } else { Ok((value, after)) }
    } else {
        let end = s.bytes().position(|b| !is_token(b)).unwrap_or(s.len());
        if end == 0 { Err(BadForwarded::Malformed) } else { Ok(s.split_at(end)) }
    }
}

fn is_token(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)
}

fn parse_node(s: &str) -> Option<Forwarded> {
    let (ip, port): (IpAddr, _) = match s.strip_prefix('[') {
        Some(rest) => {
            let (ip, port) = rest.split_once(']')?;
            let port = if port.is_empty() { None } else { Some(port.strip_prefix(':')?) };
            (ip.parse::<Ipv6Addr>().ok()?.into(), port)
        }
        None => {
            let (ip, port) = s.split_once(':').map_or((s, None), |(ip, port)| (ip, Some(port)));
            (ip.parse::<std::net::Ipv4Addr>().ok()?.into(), port)
        }
    };
    let port = match port {
        Some(port) => Some(parse_port(port)?),
        None => None,
    };
    Some(Forwarded { ip: ip.to_canonical(), port })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips() {
        for s in ["10.0.0.1:4711", "[fd00::1]:80"] {
            let value = Forwarded::from(s.parse::<SocketAddr>().unwrap());
            assert_eq!(value.to_string(), format!("for=\"{s}\""));
            assert_eq!(value.to_string().parse(), Ok(value));
        }
        for ip in ["10.0.0.1", "fd00::1"] {
            let value = Forwarded { ip: ip.parse().unwrap(), port: None };
            assert_eq!(value.to_string().parse(), Ok(value));
        }
    }

    #[test]
    fn reads_the_forms_of_the_rfc() {
        let v4 = Forwarded { ip: "192.0.2.60".parse().unwrap(), port: None };
        assert_eq!("for=192.0.2.60".parse(), Ok(v4));
        assert_eq!("For=192.0.2.60;proto=http; by=203.0.113.43".parse(), Ok(v4));
        assert_eq!("proto=http;for=192.0.2.60, for=198.51.100.17".parse(), Ok(v4));
        let v6 = Forwarded { ip: "2001:db8:cafe::17".parse().unwrap(), port: Some(4711) };
        assert_eq!("For=\"[2001:db8:cafe::17]:4711\"".parse(), Ok(v6));
        let mapped = Forwarded { ip: "10.0.0.1".parse().unwrap(), port: Some(1) };
        assert_eq!("for=\"[::ffff:10.0.0.1]:1\"".parse(), Ok(mapped));
    }

    #[test]
    fn refuses_what_is_not_one() {
        use BadForwarded::*;
        for (s, why) in [
            ("", Malformed),
            ("for", Malformed),
            ("for=", Malformed),
            ("=x", Malformed),
            ("for=\"10.0.0.1", Malformed),
            ("for=\"10.0.0.1\\\"", Malformed),
            ("for=10.0.0.1;for=10.0.0.2", Malformed),
            ("for=10.0.0.1 x", Malformed),
            ("for=10.0.0.1:80", Malformed),
            ("by=10.0.0.1", NoFor),
            ("by=10.0.0.1, for=10.0.0.2", NoFor),
            ("for=unknown", NotAnAddress),
            ("for=_hidden", NotAnAddress),
            ("for=\"10.0.0.1:0\"", NotAnAddress),
            ("for=\"10.0.0.1:99999\"", NotAnAddress),
            ("for=\"fd00::1\"", NotAnAddress),
            ("for=\"[fd00::1]80\"", NotAnAddress),
            ("for=\"[10.0.0.1]:80\"", NotAnAddress),
        ] {
            assert_eq!(s.parse::<Forwarded>(), Err(why), "{s}");
        }
        let long = format!("for=10.0.0.1;x={}", "y".repeat(LONGEST));
        assert_eq!(long.parse::<Forwarded>(), Err(TooLong));
    }
}
