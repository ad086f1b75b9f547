//! How an application's connection reaches the agent, and how it is told what becomes of it.

use crate::lanes::reset;
use std::{
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use weft_io::hbone::Authority;
use weft_model::{NetworkAddress, Reason, Snapshot, Workload};

/// The longest head of an HTTP CONNECT, in bytes.
const LONGEST_HEAD: usize = 8192;
/// How long an application may take to say where it wants to go.
const PATIENCE: Duration = Duration::from_secs(10);

/// How a connection came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// Captured by the kernel: the application does not know of the agent.
    Captured,
    /// By HTTP CONNECT (RFC 9110, section 9.3.6).
    Connect,
    /// By SOCKS5 (RFC 1928), without authentication.
    Socks,
}

/// Where an application asks to go.
pub struct Asked(Authority);

impl Door {
    /// Reads where the application wants to go. `None` when it does not say it properly.
    pub async fn ask(self, tcp: &mut TcpStream) -> Option<Asked> {
        let asking = async {
            match self {
                Door::Captured => None,
                Door::Connect => read_connect(tcp).await.ok()?,
                Door::Socks => read_socks(tcp).await.ok()?,
            }
        };
        timeout(PATIENCE, asking).await.ok()?.map(Asked)
    }

    /// Says that the way is open.
    pub async fn welcome(self, tcp: &mut TcpStream) -> io::Result<()> {
        match self {
            Door::Captured => Ok(()),
            Door::Connect => tcp.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await,
            Door::Socks => tcp.write_all(&socks_reply(0)).await,
        }
    }

    /// Says that there is no way, and ends the connection.
    pub async fn refuse(self, mut tcp: TcpStream, reason: Reason) {
        let said = match self {
            Door::Captured => return reset(tcp),
            Door::Connect => {
                let status = match reason {
                    Reason::BadRequest => "400 Bad Request",
                    Reason::PolicyDenied | Reason::RejectedByPeer => "403 Forbidden",
                    Reason::ConnectTimeout => "504 Gateway Timeout",
                    _ => "502 Bad Gateway",
                };
                let head =
                    format!("HTTP/1.1 {status}\r\nx-weft-reason: {reason}\r\ncontent-length: 0\r\n\r\n");
                tcp.write_all(head.as_bytes()).await
            }
            Door::Socks => {
                let code = match reason {
                    Reason::PolicyDenied | Reason::RejectedByPeer => 2,
                    Reason::ConnectionRefused => 5,
                    _ => 1,
                };
                tcp.write_all(&socks_reply(code)).await
            }
        };
        if said.is_ok() {
            // The answer must arrive, so this one end is a clean one.
            let _ = socket2::SockRef::from(&tcp).set_linger(None);
        }
    }
}

impl Asked {
    /// The address that it means: itself, or the first one of the service with that host name, as DNS would have it.
    pub fn resolve(&self, snapshot: &Snapshot, source: &Workload) -> Option<SocketAddr> {
        let (host, port) = match &self.0 {
            Authority::Ip(at) => return Some(*at),
            Authority::Host(host, port) => (host, *port),
        };
        let is_meant = |namespace: &str, hostname: &str| {
            hostname == &**host
                || hostname.strip_prefix(&**host).is_some_and(|rest| {
                    rest.starts_with('.') && (host.contains('.') || namespace == &*source.namespace)
                })
        };
        let service =
            snapshot.services().find(|s| is_meant(&s.service.key.namespace, &s.service.key.hostname))?;
        let reachable = |a: &&NetworkAddress| a.network == source.network;
        let address = service.service.addresses.iter().find(reachable)?;
        Some(SocketAddr::new(address.ip, port))
    }
}

/// Reads the head of a CONNECT, and not a byte more.
async fn read_connect(tcp: &mut TcpStream) -> io::Result<Option<Authority>> {
    let (mut head, mut chunk) = (Vec::new(), [0; 1024]);
    loop {
        let seen = tcp.peek(&mut chunk).await?;
        if seen == 0 || head.len() > LONGEST_HEAD {
            return Ok(None);
        }
        let before = head.len();
        head.extend_from_slice(&chunk[..seen]);
        let end = head.windows(4).position(|w| w == b"\r\n\r\n").map(|at| at + 4);
        tcp.read_exact(&mut chunk[..end.unwrap_or(head.len()) - before]).await?;
        if let Some(end) = end {
            return Ok(parse_connect(&head[..end]));
        }
    }
}

fn parse_connect(head: &[u8]) -> Option<Authority> {
    let line = std::str::from_utf8(head).ok()?.lines().next()?;
    let target = line.strip_prefix("CONNECT ")?;
    let (target, version) = target.split_once(' ')?;
    version.starts_with("HTTP/1.").then(|| target.parse().ok())?
}

async fn read_socks(tcp: &mut TcpStream) -> io::Result<Option<Authority>> {
    let mut start = [0; 2];
    tcp.read_exact(&mut start).await?;
    let mut methods = vec![0; start[1].into()];
    tcp.read_exact(&mut methods).await?;
    if start[0] != 5 || !methods.contains(&0) {
        tcp.write_all(&[5, 0xff]).await?;
        return Ok(None);
    }
    tcp.write_all(&[5, 0]).await?;
    let mut request = [0; 4];
    tcp.read_exact(&mut request).await?;
    let [5, 1, _, kind] = request else { return Ok(None) };
    let host = match kind {
        1 => IpAddr::from(u32::to_be_bytes(tcp.read_u32().await?)).to_string(),
        4 => format!("[{}]", Ipv6Addr::from(tcp.read_u128().await?)),
        3 => {
            let mut name = vec![0; tcp.read_u8().await?.into()];
            tcp.read_exact(&mut name).await?;
            String::from_utf8(name).map_err(|_| io::ErrorKind::InvalidData)?
        }
        _ => return Ok(None),
    };
    let port = tcp.read_u16().await?;
    Ok(format!("{host}:{port}").parse().ok())
}

/// A reply with this code; the bound address that it has room for is of no use to anyone.
fn socks_reply(code: u8) -> [u8; 10] {
    [5, code, 0, 1, 0, 0, 0, 0, 0, 0]
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;
    use weft_model::{Delta, Service, SnapshotStore};

    async fn asked(door: Door, said: &[u8]) -> (Option<Authority>, Vec<u8>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        client.write_all(said).await.unwrap();
        client.shutdown().await.unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        let asked = door.ask(&mut server).await.map(|a| a.0);
        let mut rest = Vec::new();
        server.read_to_end(&mut rest).await.unwrap();
        (asked, rest)
    }

    #[tokio::test]
    async fn connect_is_read_to_its_end_and_no_further() {
        let said = b"CONNECT 10.0.0.2:80 HTTP/1.1\r\nhost: x\r\n\r\nearly";
        let (to, rest) = asked(Door::Connect, said).await;
        assert_eq!(to, Some(Authority::Ip("10.0.0.2:80".parse().unwrap())));
        assert_eq!(rest, b"early");
        let long = format!("CONNECT web:80 HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(5000));
        assert_eq!(asked(Door::Connect, long.as_bytes()).await.0, Some("web:80".parse().unwrap()));
        for odd in
            [&b"GET / HTTP/1.1\r\n\r\n"[..], b"CONNECT web HTTP/1.1\r\n\r\n", b"CONNECT web:80", b"\r\n\r\n"]
        {
            assert_eq!(asked(Door::Connect, odd).await.0, None);
        }
    }

    #[tokio::test]
    async fn socks_by_address_and_by_name() {
        let v4 = [&[5, 1, 0][..], &[5, 1, 0, 1, 10, 0, 0, 2, 0, 80]].concat();
        assert_eq!(asked(Door::Socks, &v4).await.0, Some("10.0.0.2:80".parse().unwrap()));
        let name = [&[5, 2, 2, 0][..], &[5, 1, 0, 3, 3], b"web", &[0, 80]].concat();
        assert_eq!(asked(Door::Socks, &name).await.0, Some("web:80".parse().unwrap()));
        for odd in [&[4, 1, 0][..], &[5, 1, 2], &[5, 1, 0, 5, 2, 0, 1, 10, 0, 0, 2, 0, 80], &[5, 1, 0, 5, 1]]
        {
            assert_eq!(asked(Door::Socks, odd).await.0, None, "{odd:?}");
        }
    }

    #[test]
    fn names_mean_what_dns_would_say() {
        let mut service = Service::new("shop", "web", "web.shop.svc.cluster.local");
        service.addresses = vec![NetworkAddress::new("".into(), "10.96.0.1".parse().unwrap())];
        let store = SnapshotStore::default();
        store.apply(vec![Delta::Service(service)]);
        let snapshot = store.load();
        let resolve = |host: &str, namespace: &str| {
            let source = Workload::new("u", namespace, "client", "client");
            Asked(format!("{host}:80").parse().unwrap()).resolve(&snapshot, &source)
        };
        let web = Some("10.96.0.1:80".parse().unwrap());
        assert_eq!(resolve("web", "shop"), web);
        assert_eq!(resolve("web.shop", "other"), web);
        assert_eq!(resolve("web.shop.svc.cluster.local", "other"), web);
        assert_eq!(resolve("web", "other"), None);
        assert_eq!(resolve("we", "shop"), None);
        assert_eq!(resolve("10.0.0.9", "shop"), Some("10.0.0.9:80".parse().unwrap()));
    }
}
