//! Records are for the connection that they were made for: not for another of the same addresses and ports, and not for
//! longer than the policies allow it.
#![allow(unsafe_code)]

use crate::stage::{PATIENCE, Stage, accept, nobody, policy, talk};
use anyhow::{Context, Result, ensure};
use socket2::{Domain, Protocol, Socket, Type};
use std::{
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    os::fd::AsRawFd,
    thread::sleep,
    time::{Duration, Instant},
};
use weft_model::policy::Action;
use weft_tests::require_kernel;

/// Sends a SYN past the kernel's own connections, as root in a pod may. The sum of the packet with its pseudo-header is that of
/// any TCP packet.
fn raw_syn(from: SocketAddr, to: SocketAddr) -> Result<()> {
    let mut tcp = Vec::new();
    tcp.extend(from.port().to_be_bytes());
    tcp.extend(to.port().to_be_bytes());
    tcp.extend(0x1234_5678_u32.to_be_bytes());
    tcp.extend([0, 0, 0, 0, 5 << 4, 0x02, 0xff, 0xff, 0, 0, 0, 0]);
    let mut pseudo = Vec::new();
    for ip in [from.ip(), to.ip()] {
        match ip {
            IpAddr::V4(ip) => pseudo.extend(ip.octets()),
            IpAddr::V6(ip) => pseudo.extend(ip.octets()),
        }
    }
    pseudo.extend([0, 6, 0, 20]);
    pseudo.extend(&tcp);
    let sum: u32 = pseudo.chunks(2).map(|two| u32::from(two[0]) << 8 | u32::from(two[1])).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let checksum = !((folded & 0xffff) + (folded >> 16)) as u16;
    tcp[16..18].copy_from_slice(&checksum.to_be_bytes());
    let socket = Socket::new(Domain::for_address(to), Type::RAW, Some(Protocol::TCP))?;
    // An IPv6 raw socket takes no port.
    socket.send_to(&tcp, &SocketAddr::new(to.ip(), 0).into())?;
    Ok(())
}

/// Makes the connection vanish without a word to its peer.
fn vanish(stream: TcpStream) -> Result<()> {
    const TCP_REPAIR: i32 = 19;
    let on = 1_i32;
    // SAFETY: the kernel reads four bytes of `on`.
    let set = unsafe {
        libc::setsockopt(stream.as_raw_fd(), libc::IPPROTO_TCP, TCP_REPAIR, (&raw const on).cast(), 4)
    };
    ensure!(set == 0, "TCP_REPAIR: {}", std::io::Error::last_os_error());
    Ok(())
}

/// Waits until a counter moves from what it was.
fn moved(stage: &Stage, name: &str, before: u64) -> Result<()> {
    let until = Instant::now() + PATIENCE;
    while stage.counter(name)? == before {
        ensure!(Instant::now() < until, "{name} stays {before}");
        sleep(Duration::from_millis(5));
    }
    Ok(())
}

#[test]
fn a_record_lets_in_one_connection_and_no_second_one() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let mut stage = Stage::new()?;
    let app = stage.db.listen(8080)?;
    stage.apply(vec![policy("some", Action::Allow, &["web"], &[])])?;
    let mut held = Vec::new();
    for address in stage.db.addresses {
        let to = SocketAddr::new(address, 8080);
        let mut client = stage.web.connect(to)?;
        let (mut server, from) = accept(&app)?;
        talk(&mut client, &mut server)?;
        vanish(server)?;
        held.push((client, from, to));
    }
    stage.apply(vec![policy("some", Action::Allow, &["nobody"], &[])])?;
    for (_client, from, to) in &held {
        let (admitted, steered) = (stage.counter("admitted")?, stage.counter("steered")?);
        stage.web.netns.run(|| raw_syn(*from, *to))?;
        moved(&stage, "steered", steered).with_context(|| format!("{from} to {to}"))?;
        assert_eq!(stage.counter("admitted")?, admitted, "{from} to {to}");
    }
    nobody(&app)
}

#[test]
fn a_connection_whose_first_packet_is_late_meets_the_policies_of_then() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let mut stage = Stage::new()?;
    let app = stage.db.listen(8080)?;
    let open = |stage: &Stage, to: SocketAddr| {
        stage.web.netns.run(|| {
            let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
            socket.set_nonblocking(true)?;
            match socket.connect(&to.into()) {
                Err(e) if e.raw_os_error() == Some(libc::EINPROGRESS) => Ok(socket),
                other => anyhow::bail!("{to}: {other:?}"),
            }
        })
    };
    for address in stage.db.addresses {
        let to = SocketAddr::new(address, 8080);
        stage.apply(vec![policy("some", Action::Allow, &["web"], &[])])?;
        // The neighbour is known by now, or the packets would wait for it.
        drop((stage.web.connect(to)?, accept(&app)?));
        stage.node.ip(&["link set veth3 down".into()])?;
        let (allowed, refused) = (open(&stage, to)?, open(&stage, to)?);
        sleep(Duration::from_millis(50));
        // A change that leaves the connection allowed does it no harm.
        stage.apply(vec![policy("other", Action::Deny, &["nobody"], &[1])])?;
        stage.node.ip(&["link set veth3 up".into()])?;
        drop(refused);
        let (mut server, _) = accept(&app)?;
        allowed.set_nonblocking(false)?;
        talk(&mut allowed.into(), &mut server)?;

        stage.node.ip(&["link set veth3 down".into()])?;
        let late = open(&stage, to)?;
        sleep(Duration::from_millis(50));
        let denied = stage.counter("denied")?;
        stage.apply(vec![policy("some", Action::Allow, &["nobody"], &[])])?;
        stage.node.ip(&["link set veth3 up".into()])?;
        moved(&stage, "denied", denied)?;
        drop(late);
        nobody(&app)?;
    }
    Ok(())
}

#[test]
fn tcp_fast_open_sends_nothing_by_a_verdict_of_before() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let mut stage = Stage::new()?;
    // Client and server with data in the SYN, and without a cookie (as with one that is known from before).
    for pod in [&stage.web, &stage.db] {
        pod.netns.run(|| Ok(std::fs::write("/proc/sys/net/ipv4/tcp_fastopen", "519")?))?;
    }
    let app = stage.db.listen(8080)?;
    fast_open(&app)?;
    let open = |stage: &Stage, to: SocketAddr| {
        stage.web.netns.run(|| {
            let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
            nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::TcpFastOpenConnect, &true)?;
            socket.connect(&to.into())?;
            Ok(TcpStream::from(socket))
        })
    };
    for address in stage.db.addresses {
        let to = SocketAddr::new(address, 8080);
        stage.apply(vec![policy("some", Action::Allow, &["web"], &[])])?;
        let (mut allowed, mut late) = (open(&stage, to)?, open(&stage, to)?);
        nobody(&app)?;
        let mut server = accept_after(&app, &mut allowed)?;
        talk(&mut allowed, &mut server)?;
        stage.apply(vec![policy("some", Action::Allow, &["nobody"], &[])])?;
        let denied = stage.counter("denied")?;
        let _ = late.write_all(b"ping");
        moved(&stage, "denied", denied)?;
        nobody(&app)?;
    }
    Ok(())
}

/// Nothing is sent before the first bytes are.
fn accept_after(app: &TcpListener, client: &mut TcpStream) -> Result<TcpStream> {
    client.write_all(b"x")?;
    let (mut server, _) = accept(app)?;
    let mut one = [0];
    server.read_exact(&mut one)?;
    ensure!(&one == b"x");
    Ok(server)
}

/// Lets a listener take data in SYNs.
fn fast_open(listener: &TcpListener) -> Result<()> {
    let queue = 16_i32;
    // SAFETY: the kernel reads four bytes of `queue`.
    let set = unsafe {
        let value = (&raw const queue).cast();
        libc::setsockopt(listener.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_FASTOPEN, value, 4)
    };
    ensure!(set == 0, "TCP_FASTOPEN: {}", std::io::Error::last_os_error());
    Ok(())
}
