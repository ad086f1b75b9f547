//! Sockets that the agent opens inside a pod to connect from there.

use super::Netns;
use nix::sys::socket::{setsockopt, sockopt::IpBindAddressNoPort};
use socket2::{Domain, Protocol, Socket, Type};
use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};
use tokio::{
    net::{TcpSocket, TcpStream},
    time::timeout,
};

/// How long TCP may take to connect.
const PATIENCE: Duration = Duration::from_secs(10);

/// A TCP socket of `netns`, of the family of `to`, for [`connect`].
pub fn open(netns: &Netns, to: SocketAddr) -> io::Result<Socket> {
    let domain = Domain::for_address(to);
    let socket = netns.enter(|| Socket::new(domain, Type::STREAM.nonblocking(), Some(Protocol::TCP)))?;
    socket.set_tcp_nodelay(true)?;
    Ok(socket)
}

/// Makes `socket` connect from `ip`, with a port that is chosen when the destination is known: so the number of
/// connections is limited for each destination, not over all of them.
pub fn bind_address(socket: &Socket, ip: IpAddr) -> io::Result<()> {
    setsockopt(socket, IpBindAddressNoPort, &true)?;
    socket.bind(&SocketAddr::new(ip, 0).into())
}

/// Connects `socket` to `to`.
pub async fn connect(socket: Socket, to: SocketAddr) -> io::Result<TcpStream> {
    let connecting = TcpSocket::from_std_stream(socket.into()).connect(to);
    timeout(PATIENCE, connecting).await.unwrap_or(Err(io::ErrorKind::TimedOut.into()))
}
