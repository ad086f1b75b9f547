//! The agent's listening sockets inside a pod.
//!
//! They sit on ephemeral ports: connections reach them because the kernel programs steer them there, so the pod keeps
//! every port for itself. Each role is a SO_REUSEPORT group with one socket for each lane: so that they may share a port. Which
//! of them a connection goes to is the kernel program's choice (`ebpf/src/turn.rs`), not the group's.

use super::Netns;
use socket2::{Domain, Protocol, Socket, Type};
use std::{
    fmt, io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener},
};

/// How many connections may wait to be accepted on one socket; the kernel caps it by `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

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

/// Opens one more listener inside the namespace: on `beside`'s port and in its group, or on a new ephemeral port.
pub fn open(netns: &Netns, beside: Option<&TcpListener>) -> io::Result<TcpListener> {
    let at = beside.map(TcpListener::local_addr).transpose()?;
    netns.enter(|| match at {
        Some(at) => bind(at),
        None => match bind((Ipv6Addr::UNSPECIFIED, 0).into()) {
            // The kernel was started without IPv6.
            Err(e) if e.raw_os_error() == Some(libc::EAFNOSUPPORT) => bind((Ipv4Addr::UNSPECIFIED, 0).into()),
            bound => bound,
        },
    })
}

/// Opens a listener at `at`, in the namespace that the thread is in.
pub fn bind(at: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(at), Type::STREAM, Some(Protocol::TCP))?;
    if at.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    // What is accepted holds the application's port: with this it can still bind it again after a restart.
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
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
