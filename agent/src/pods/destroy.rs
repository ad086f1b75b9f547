//! Cutting a connection that no process of ours holds: `SOCK_DESTROY` of sock_diag(7).
//!
//! A socket is destroyed by its cookie and never by its addresses alone: where the connection is gone by then, the kernel
//! would find the application's listener at the local address, and destroy that.

use super::Netns;
use nix::errno::Errno;
use socket2::{Domain, Protocol, Socket, Type};
use std::{
    io::{self, Read},
    net::{IpAddr, SocketAddr},
};

/// `NETLINK_SOCK_DIAG`.
const SOCK_DIAG: i32 = libc::NETLINK_SOCK_DIAG;
/// `SOCK_DIAG_BY_FAMILY` of linux/sock_diag.h.
const SOCK_DIAG_BY_FAMILY: u16 = 20;
/// `SOCK_DESTROY` of linux/sock_diag.h.
const SOCK_DESTROY: u16 = 21;
/// `TCP_LISTEN` of the kernel's states.
const LISTEN: u8 = 10;
/// The length of `nlmsghdr` and `inet_diag_req_v2` together.
const REQUEST: usize = 16 + 56;

/// Stands for whatever cookie the socket has (`INET_DIAG_NOCOOKIE` in both its halves).
const ANY: u64 = u64::MAX;

/// The cookie of the TCP socket of `netns` that is bound to `local` and connected to `remote`.
pub fn find(netns: &Netns, local: SocketAddr, remote: SocketAddr) -> io::Result<Option<u64>> {
    let flags = libc::NLM_F_REQUEST as u16;
    ask(
        netns,
        local,
        remote,
        |local, remote| request(SOCK_DIAG_BY_FAMILY, flags, local, remote, ANY),
        connected,
    )
}

/// What an `inet_diag_msg` behind its header says: the cookie, unless it is about a listener.
fn connected(answer: &[u8]) -> io::Result<Option<u64>> {
    if answer.get(4..6) != Some(&SOCK_DIAG_BY_FAMILY.to_ne_bytes()) {
        return acknowledged(answer).map(|_| None);
    }
    let state = answer.get(17);
    let cookie = answer.get(60..68).and_then(|bytes| bytes.try_into().ok()).map(u64::from_ne_bytes);
    Ok(cookie.filter(|_| state.is_some_and(|state| *state != LISTEN)))
}

/// Destroys the TCP socket of `netns` that is bound to `local`, is connected to `remote` and has this cookie: its peer
/// sees a reset, its owner `ECONNABORTED`. `false` when there is no such socket (any more).
pub fn destroy(netns: &Netns, local: SocketAddr, remote: SocketAddr, cookie: u64) -> io::Result<bool> {
    let flags = (libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16;
    let asked = |local, remote| request(SOCK_DESTROY, flags, local, remote, cookie);
    Ok(ask(netns, local, remote, asked, acknowledged)?.is_some())
}

/// Sends a request for each form of the addresses, until `read` finds something in an answer.
fn ask<T>(
    netns: &Netns,
    local: SocketAddr,
    remote: SocketAddr,
    request: impl Fn(SocketAddr, SocketAddr) -> Vec<u8>,
    read: impl Fn(&[u8]) -> io::Result<Option<T>>,
) -> io::Result<Option<T>> {
    let netlink = netns
        .enter(|| Socket::new(Domain::from(libc::AF_NETLINK), Type::RAW, Some(Protocol::from(SOCK_DIAG))))?;
    // An IPv4 connection of a dual-stack socket is filed under either family, as the socket was made.
    for mapped in [false, true] {
        let (Some(local), Some(remote)) = (as_family(local, mapped), as_family(remote, mapped)) else {
            continue;
        };
        netlink.send(&request(local, remote))?;
        let mut answer = [0u8; 512];
        let len = (&netlink).read(&mut answer)?;
        if let Some(found) = read(&answer[..len])? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// Whether an answer says that it was done, or that there is no such socket: none at these addresses, or another one by now.
fn acknowledged(answer: &[u8]) -> io::Result<Option<()>> {
    match errno(answer) {
        0 => Ok(Some(())),
        libc::ENOENT | libc::ESTALE => Ok(None),
        errno => Err(Errno::from_raw(errno).into()),
    }
}

/// The address as it stands, or mapped into IPv6 where that makes a difference.
fn as_family(at: SocketAddr, mapped: bool) -> Option<SocketAddr> {
    match (mapped, at.ip()) {
        (false, _) => Some(at),
        (true, IpAddr::V4(v4)) => Some(SocketAddr::new(v4.to_ipv6_mapped().into(), at.port())),
        (true, IpAddr::V6(_)) => None,
    }
}

/// A netlink message: header, then `inet_diag_req_v2`.
fn request(kind: u16, flags: u16, local: SocketAddr, remote: SocketAddr, cookie: u64) -> Vec<u8> {
    let family = if local.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let mut message = Vec::with_capacity(REQUEST);
    message.extend((REQUEST as u32).to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    // Sequence number and port: one question, one answer, nobody to mix them up with.
    message.extend([0; 8]);
    message.extend([family as u8, libc::IPPROTO_TCP as u8, 0, 0]);
    // Every state.
    message.extend(u32::MAX.to_ne_bytes());
    message.extend(local.port().to_be_bytes());
    message.extend(remote.port().to_be_bytes());
    message.extend(octets(local.ip()));
    message.extend(octets(remote.ip()));
    // Any interface.
    message.extend([0; 4]);
    message.extend((cookie as u32).to_ne_bytes());
    message.extend(((cookie >> 32) as u32).to_ne_bytes());
    message
}

/// A message that asks for all TCP sockets of the family of `any`.
pub(super) fn dump(any: IpAddr) -> Vec<u8> {
    let none = SocketAddr::new(any, 0);
    request(SOCK_DIAG_BY_FAMILY, (libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16, none, none, ANY)
}

/// The address in 16 bytes, an IPv4 one in the first four.
fn octets(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V6(v6) => v6.octets(),
        IpAddr::V4(v4) => {
            let mut all = [0; 16];
            all[..4].copy_from_slice(&v4.octets());
            all
        }
    }
}

/// The error number of a netlink answer, 0 for an acknowledgement.
fn errno(answer: &[u8]) -> i32 {
    let number = answer.get(16..20).and_then(|bytes| bytes.try_into().ok());
    number.map_or(libc::EPROTO, |bytes| -i32::from_ne_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io::Write,
        net::{TcpListener, TcpStream},
        path::Path,
    };

    #[test]
    fn the_socket_of_that_cookie_is_destroyed_and_no_other() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("skipped: needs root to destroy a socket");
            return;
        }
        let netns = Netns::open(Path::new("/proc/self/ns/net")).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        let (local, remote) = (client.local_addr().unwrap(), client.peer_addr().unwrap());
        let cookie = rustix::net::sockopt::socket_cookie(&client).unwrap();
        assert_eq!(find(&netns, local, remote).unwrap(), Some(cookie));

        assert!(!destroy(&netns, local, remote, cookie + 1).unwrap());
        assert!(!destroy(&netns, local, "127.0.0.1:1".parse().unwrap(), cookie).unwrap());
        client.write_all(b"x").unwrap();
        assert_eq!(server.read(&mut [0; 4]).unwrap(), 1);

        assert!(destroy(&netns, local, remote, cookie).unwrap());
        assert_eq!(server.read(&mut [0; 4]).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        assert!(client.read(&mut [0; 4]).is_err());

        // What is left at the server's address is the listener, which is nobody's connection.
        drop(server);
        assert_eq!(find(&netns, remote, local).unwrap(), None);
        TcpStream::connect(remote).unwrap();
    }
}
