//! Applications that use their sockets in other ways than plain `connect`.
#![allow(unsafe_code)]

use crate::stage::{PATIENCE, REMOTE, Stage, TestPod, accept, at, canonical, talk};
use anyhow::{Context, Result, ensure};
use io_uring::{IoUring, opcode, types::Fd};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, Socket, Type};
use std::{
    net::{SocketAddr, TcpStream},
    os::fd::{AsFd, AsRawFd},
};
use weft_tests::require_kernel;

/// Runs `connect` for a destination elsewhere and one on the node, IPv4 and IPv6, and sees that data flows and addresses
/// are what they should be.
fn everywhere(connect: impl Fn(&TestPod, SocketAddr) -> Result<TcpStream>) -> Result<()> {
    let stage = Stage::new()?;
    let app = stage.db.listen(8080)?;
    let [db4, db6] = stage.db.addresses.map(|a| SocketAddr::new(a, 8080));
    let [far4, far6] = REMOTE.map(|host| at(host, 8080));
    let outbound = &stage.web.outbound;
    for (to, listener) in [(far4, outbound), (far6, outbound), (db4, &app), (db6, &app)] {
        let mut client = connect(&stage.web, to).with_context(|| to.to_string())?;
        let (mut server, peer) = accept(listener).with_context(|| to.to_string())?;
        talk(&mut client, &mut server).with_context(|| to.to_string())?;
        assert_eq!(client.peer_addr()?, to);
        assert_eq!(canonical(client.local_addr()?), peer);
        assert_eq!(peer.ip(), stage.web.address(to.ip()));
    }
    Ok(())
}

fn socket(to: SocketAddr) -> Result<Socket> {
    Ok(Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?)
}

fn finish(socket: Socket, to: SocketAddr) -> Result<TcpStream> {
    socket.connect_timeout(&to.into(), PATIENCE)?;
    socket.set_nonblocking(false)?;
    Ok(socket.into())
}

#[test]
fn bound_to_an_address_and_a_port() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    everywhere(|pod, to| {
        pod.netns.run(|| {
            let socket = socket(to)?;
            socket.set_reuse_address(true)?;
            socket.bind(&SocketAddr::new(pod.address(to.ip()), 5555).into())?;
            let stream = finish(socket, to)?;
            assert_eq!(stream.local_addr()?.port(), 5555);
            Ok(stream)
        })
    })
}

#[test]
fn one_source_port_to_several_destinations_at_once() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let stage = Stage::new()?;
    let mut open = Vec::new();
    for port in 1..=20 {
        let to = at(REMOTE[0], port);
        let client = stage.web.netns.run(|| {
            let socket = socket(to)?;
            socket.set_reuse_address(true)?;
            socket.bind(&SocketAddr::new(stage.web.addresses[0], 5555).into())?;
            finish(socket, to)
        })?;
        let (agent, peer) = accept(&stage.web.outbound)?;
        let found = stage.kernel.arrivals()?.find(stage.web.cookie, peer, canonical(agent.local_addr()?));
        assert_eq!(found.context("no record")?.original, to);
        open.push((client, agent));
    }
    open.iter_mut().try_for_each(|(client, agent)| talk(client, agent))
}

#[test]
fn bound_to_a_device() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    everywhere(|pod, to| {
        pod.netns.run(|| {
            let socket = socket(to)?;
            socket.bind_device(Some(b"eth0"))?;
            finish(socket, to)
        })
    })
}

#[test]
fn non_blocking() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    everywhere(|pod, to| {
        pod.netns.run(|| {
            let socket = socket(to)?;
            socket.set_nonblocking(true)?;
            match socket.connect(&to.into()) {
                Err(e) if e.raw_os_error() == Some(libc::EINPROGRESS) => {}
                other => other?,
            }
            let mut ready = [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)];
            ensure!(poll(&mut ready, PollTimeout::from(5000_u16))? == 1, "never connected");
            ensure!(socket.take_error()?.is_none());
            socket.set_nonblocking(false)?;
            Ok(socket.into())
        })
    })
}

#[test]
fn tcp_fast_open() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    const MSG_FASTOPEN: i32 = 0x2000_0000;
    everywhere(|pod, to| {
        pod.netns.run(|| {
            let socket = socket(to)?;
            let sent = socket.send_to_with_flags(b"", &SockAddr::from(to), MSG_FASTOPEN)?;
            assert_eq!(sent, 0);
            Ok(socket.into())
        })
    })?;
    everywhere(|pod, to| {
        pod.netns.run(|| {
            let socket = socket(to)?;
            nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::TcpFastOpenConnect, &true)?;
            socket.connect(&to.into())?;
            Ok(socket.into())
        })
    })
}

#[test]
fn io_uring() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    if let Err(error) = IoUring::new(1) {
        // Containers and hardened kernels forbid it to everybody: applications cannot use it there either.
        println!("SKIPPED: io_uring is not to be had here: {error}");
        return Ok(());
    }
    everywhere(|pod, to| {
        pod.netns.run(|| {
            let socket = socket(to)?;
            let address = SockAddr::from(to);
            let mut ring = IoUring::new(1)?;
            let entry = opcode::Connect::new(Fd(socket.as_raw_fd()), address.as_ptr().cast(), address.len());
            // SAFETY: the address and the socket outlive the operation, which is waited for right here.
            unsafe { ring.submission().push(&entry.build())? };
            ring.submit_and_wait(1)?;
            let done = ring.completion().next().context("no completion")?;
            ensure!(done.result() == 0, "connect: {}", std::io::Error::from_raw_os_error(-done.result()));
            Ok(socket.into())
        })
    })
}

#[test]
fn mptcp() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    everywhere(|pod, to| {
        pod.netns.run(|| {
            let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::MPTCP))?;
            finish(socket, to)
        })
    })
}

#[test]
fn a_socket_that_connects_again_elsewhere() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let stage = Stage::new()?;
    let app = stage.other.listen(7000)?;
    let far = at(REMOTE[0], 443);
    let near = SocketAddr::new(stage.other.addresses[0], 7000);
    let mut client = stage.web.netns.run(|| {
        let socket = socket(far)?;
        socket.connect_timeout(&far.into(), PATIENCE)?;
        socket.set_nonblocking(false)?;
        accept(&stage.web.outbound)?;
        // AF_UNSPEC (zero) dissolves the association, see connect(2).
        let storage = SockAddrStorage::zeroed();
        // SAFETY: all zeroes is a valid address of no family, of the length of the smallest one.
        socket.connect(&unsafe { SockAddr::new(storage, size_of::<libc::sockaddr>() as libc::socklen_t) })?;
        finish(socket, near)
    })?;
    assert_eq!(client.peer_addr()?, near);
    talk(&mut client, &mut accept(&app)?.0)
}

#[test]
fn what_a_failed_connect_left_on_a_socket_means_nothing_once_the_pod_has_left() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let mut stage = Stage::guarded()?;
    let app = stage.db.listen(8080)?;
    let [to, elsewhere] = [8080, 8081].map(|port| SocketAddr::new(stage.db.addresses[0], port));
    let bound = || -> Result<Socket> {
        let socket = socket(to)?;
        socket.set_reuse_address(true)?;
        socket.bind(&SocketAddr::new(stage.web.addresses[0], 5555).into())?;
        Ok(socket)
    };
    let (first, second) = stage.web.netns.run(|| Ok((bound()?, bound()?)))?;
    let _first = stage.web.netns.run(|| finish(first, to))?;
    let _accepted = accept(&app)?;
    // Judged, allowed, and then there is no such second connection: nothing of it is ever sent.
    let taken = stage.web.netns.run(|| Ok(second.connect(&to.into())))?;
    assert_eq!(taken.err().context("connected twice")?.kind(), std::io::ErrorKind::AddrNotAvailable);
    stage.kernel.leave(stage.web.cookie)?;
    let mut client = stage.web.netns.run(|| finish(second, elsewhere))?;
    talk(&mut client, &mut accept(&stage.db.inbound)?.0)
}
