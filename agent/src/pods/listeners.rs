//! The agent's listening sockets inside a pod.
//!
//! Connections reach them because the kernel programs steer them there, and in no other way: each is bound to an address
//! of its own that no packet carries. Nobody finds it by its port, nobody joins it by SO_REUSEPORT, and what a pod binds on
//! its own addresses is its own whatever the port. (A listener on `0.0.0.0` or `[::]` claims its port on every address there
//! is, these included: hence one port for all of a pod's listeners, and one where no server is.)
//!
//! Of each role there is one for each lane. Which of them a connection goes to is the kernel program's choice
//! (`ebpf/src/turn.rs`).

use super::Netns;
use socket2::{Domain, Protocol, Socket, Type};
use std::{
    fmt, io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
};
use weft_ebpf_abi::CAPTURE_PORTS;

/// How many connections may wait to be accepted on one socket; the kernel caps it by `net.core.somaxconn`.
const BACKLOG: i32 = 4096;
/// Ports that have never been assigned to anything. Should all be taken, one of [`CAPTURE_PORTS`] does.
const PORTS: [u16; 8] = [4, 6, 8, 10, 12, 14, 16, 26];
/// How many of the latter are tried.
const TRIES: usize = 64;

/// What arrives at a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// Connections that the pod's application opens.
    Outbound,
    /// Plain TCP to the pod.
    Inbound,
    /// HBONE to the pod.
    Hbone,
    /// An application that asks by HTTP CONNECT, where nothing is captured.
    Connect,
    /// An application that asks by SOCKS5, where nothing is captured.
    Socks,
}

impl Role {
    /// Those of a pod whose traffic is captured.
    pub const IN_PODS: [Self; 3] = [Self::Outbound, Self::Inbound, Self::Hbone];
    /// Those of a workload that is pointed at the agent.
    pub const EXPLICIT: [Self; 3] = [Self::Connect, Self::Socks, Self::Hbone];

    /// The word for it in logs and in the keeper's names.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Outbound => "outbound",
            Self::Inbound => "inbound",
            Self::Hbone => "hbone",
            Self::Connect => "connect",
            Self::Socks => "socks",
        }
    }
}

/// The name under which the keeper holds a listener: pod (by its namespace's cookie), role and number.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ListenerName {
    /// The cookie of the pod's network namespace.
    pub cookie: u64,
    /// What arrives there.
    pub role: Role,
    /// Its number within the role.
    pub index: usize,
}

impl fmt::Display for ListenerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.cookie, self.role.as_str(), self.index)
    }
}

impl std::str::FromStr for ListenerName {
    type Err = ();

    fn from_str(s: &str) -> Result<Self, ()> {
        let mut parts = s.split('/');
        let (Some(cookie), Some(role), Some(index), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(());
        };
        let role = Role::IN_PODS.into_iter().chain(Role::EXPLICIT).find(|r| r.as_str() == role).ok_or(())?;
        Ok(Self { cookie: cookie.parse().map_err(drop)?, role, index: index.parse().map_err(drop)? })
    }
}

/// Opens one more listener inside the namespace: on the port of `beside`, another one of the pod, or on a new one.
pub fn open(netns: &Netns, name: &ListenerName, beside: Option<&TcpListener>) -> io::Result<TcpListener> {
    let wanted = beside.map(TcpListener::local_addr).transpose()?.map(|at| at.port());
    let ip = nowhere(name);
    netns.enter(|| {
        let others = std::iter::repeat_with(|| rand::random_range(CAPTURE_PORTS)).take(TRIES);
        let mut outcome = Err(io::ErrorKind::AddrInUse.into());
        for port in wanted.into_iter().chain(PORTS).chain(others) {
            // A socket of both families, or of the only one, where the kernel was started without IPv6.
            outcome = match bind_nowhere((ip.to_ipv6_mapped(), port).into()) {
                Err(e) if e.raw_os_error() == Some(libc::EAFNOSUPPORT) => bind_nowhere((ip, port).into()),
                bound => bound,
            };
            if !outcome.as_ref().is_err_and(|e| e.kind() == io::ErrorKind::AddrInUse) {
                break;
            }
        }
        outcome
    })
}

/// The listener's address, of those that are kept for examples in documents (RFC 5737). It stands for IPv4: a socket that is
/// bound to an IPv6 address cannot be given connections of the other family.
fn nowhere(name: &ListenerName) -> Ipv4Addr {
    // Few roles and few lanes; should two listeners meet all the same, the second one gets another port.
    Ipv4Addr::new(192, 0, 2, (name.role as usize * 64 + name.index) as u8)
}

/// Opens a listener at an address that the namespace does not have.
fn bind_nowhere(at: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket(at)?;
    if at.is_ipv6() {
        socket.set_freebind_v6(true)?
    } else {
        socket.set_freebind_v4(true)?
    }
    listen(socket, at)
}

/// Opens a listener at `at`, in the namespace that the thread is in; an agent that takes over opens one beside it.
pub fn bind(at: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket(at)?;
    socket.set_reuse_port(true)?;
    listen(socket, at)
}

fn socket(at: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(at), Type::STREAM, Some(Protocol::TCP))?;
    if at.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    // What is accepted holds the application's port: with this it can still bind it again after a restart.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn listen(socket: Socket, at: SocketAddr) -> io::Result<TcpListener> {
    socket.bind(&at.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_refuse_the_rest() {
        let name = ListenerName { cookie: 7, role: Role::Hbone, index: 3 };
        assert_eq!(name.to_string(), "7/hbone/3");
        assert_eq!("7/hbone/3".parse(), Ok(name));
        for odd in ["", "7", "7/hbone", "7/hbone/3/4", "7/other/3", "x/hbone/3", "7/hbone/-1"] {
            assert!(odd.parse::<ListenerName>().is_err(), "{odd}");
        }
    }
}
