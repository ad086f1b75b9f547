//! The last step of an inbound connection: to the application, from the client's own address.

use crate::pods::{Application, Pod, sockets};
use socket2::Socket;
use std::{
    io,
    net::{IpAddr, SocketAddr},
};
use tokio::net::TcpStream;
use weft_ebpf_abi::DELIVERY_MARK;

/// The address that the application shall see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    /// The client's address.
    pub ip: IpAddr,
    /// Its port, where it is known and can be kept.
    pub port: Option<u16>,
}

/// Connects to the application at `to` in the pod, from the client's address, and its port where that is possible.
pub async fn deliver(pod: &Pod, client: Client, to: SocketAddr) -> io::Result<TcpStream> {
    if let Application::At(ip) = pod.application {
        let to = SocketAddr::new(ip, to.port());
        return sockets::connect(sockets::open(&pod.netns, to)?, to).await;
    }
    if let Err(error) = pod.keep_deliveries_inside().await {
        tracing::error!(pod = %pod.spec, %error, "nothing can be delivered to the pod; trying again with the next connection");
        return Err(io::Error::other(error));
    }
    if client.ip.is_ipv4() != to.is_ipv4() || is_link_local(client.ip) {
        // A client of the other family (its service has addresses of both): no packet can carry both addresses. Or one whose
        // address means something on its link alone: the application's answers would go there, and not back to us. The pod's
        // own address stands in for such a client.
        return sockets::connect(marked(pod, to)?, to).await;
    }
    if let Some(port) = client.port {
        match from_port(pod, SocketAddr::new(client.ip, port), to).await {
            // An earlier connection of that port is not quite over, or the application listens on that very port.
            Err(e) if matches!(e.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::AddrNotAvailable) => {}
            outcome => return outcome,
        }
    }
    let socket = transparent(pod, to)?;
    sockets::bind_address(&socket, client.ip)?;
    sockets::connect(socket, to).await
}

fn is_link_local(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local())
}

async fn from_port(pod: &Pod, client: SocketAddr, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = transparent(pod, to)?;
    // The client may use one port towards many pods and ports; the tuples differ, and only they must.
    socket.set_reuse_address(true)?;
    socket.bind(&client.into())?;
    sockets::connect(socket, to).await
}

/// A socket that may bind an address that is not the pod's.
fn transparent(pod: &Pod, to: SocketAddr) -> io::Result<Socket> {
    let socket = marked(pod, to)?;
    if to.is_ipv4() {
        socket.set_ip_transparent_v4(true)?
    } else {
        socket.set_ip_transparent_v6(true)?
    }
    Ok(socket)
}

/// The mark keeps the connection on loopback, and tells the kernel programs that it is a delivery.
fn marked(pod: &Pod, to: SocketAddr) -> io::Result<Socket> {
    let socket = sockets::open(&pod.netns, to)?;
    socket.set_mark(DELIVERY_MARK)?;
    Ok(socket)
}
