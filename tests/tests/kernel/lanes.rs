//! Connections that go to the agent are spread over its lanes.

use crate::stage::{REMOTE, Stage, TestPod, accept, agent_listener, at, talk};
use anyhow::{Context, Result, ensure};
use socket2::{Domain, Protocol, Socket, Type};
use std::{
    fs::File,
    net::{SocketAddr, TcpListener, TcpStream},
    os::fd::{AsFd, BorrowedFd},
};
use weft_agent::{
    kernel::{Enrolment, EnrolmentFlags, Kernel},
    pods::listeners::Role,
};
use weft_tests::require_kernel;

/// How many lanes the agent of these tests has.
const LANES: usize = 3;
/// How many connections each lane is to get.
const EACH: usize = 4;

/// The listeners of one pod, lane by lane.
struct Lanes {
    outbound: Vec<TcpListener>,
    inbound: Vec<TcpListener>,
    hbone: Vec<TcpListener>,
}

impl Lanes {
    fn enrol(kernel: &mut Kernel, pod: &TestPod) -> Result<Self> {
        // Lane 0 has its listeners since the stage was built; these are others.
        let open =
            |role| (1..=LANES).map(|lane| agent_listener(&pod.netns, role, lane)).collect::<Result<_>>();
        let lanes = Self {
            outbound: open(Role::Outbound)?,
            inbound: open(Role::Inbound)?,
            hbone: open(Role::Hbone)?,
        };
        kernel.enrol(&Enrolment {
            netns: File::open(pod.netns.path())?.as_fd(),
            cookie: pod.cookie,
            addresses: &pod.addresses,
            outbound: &borrowed(&lanes.outbound),
            inbound: &borrowed(&lanes.inbound),
            hbone: &borrowed(&lanes.hbone),
            flags: EnrolmentFlags::default(),
        })?;
        Ok(lanes)
    }
}

fn borrowed(listeners: &[TcpListener]) -> Vec<BorrowedFd<'_>> {
    listeners.iter().map(AsFd::as_fd).collect()
}

/// What waits at a listener.
fn waiting(listener: &TcpListener) -> usize {
    std::iter::from_fn(|| listener.accept().ok()).count()
}

/// So many connections, one family after the other.
fn connect(from: &TestPod, to: [SocketAddr; 2], count: usize) -> Result<Vec<TcpStream>> {
    to.iter().cycle().take(count).map(|to| from.connect(*to)).collect()
}

#[test]
fn every_lane_gets_the_same_share_of_every_role() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let mut stage = Stage::guarded()?;
    let lanes = Lanes::enrol(&mut stage.kernel, &stage.db)?;
    let inbound = stage.db.addresses.map(|address| SocketAddr::new(address, 8080));
    let hbone = stage.db.addresses.map(|address| SocketAddr::new(address, 15008));
    let captured = REMOTE.map(|host| at(host, 443));
    for (from, to, listeners) in [
        (&stage.other, inbound, &lanes.inbound),
        (&stage.other, hbone, &lanes.hbone),
        (&stage.db, captured, &lanes.outbound),
    ] {
        let _clients = connect(from, to, EACH * LANES)?;
        let shares: Vec<_> = listeners.iter().map(waiting).collect();
        assert_eq!(shares, [EACH; LANES], "to {to:?}");
    }
    Ok(())
}

#[test]
fn a_lane_that_is_gone_loses_no_connection() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let mut stage = Stage::guarded()?;
    let Lanes { mut inbound, .. } = Lanes::enrol(&mut stage.kernel, &stage.db)?;
    let to = stage.db.addresses.map(|address| SocketAddr::new(address, 8080));
    for left in (1..LANES).rev() {
        drop(inbound.remove(0));
        let clients = connect(&stage.other, to, EACH * LANES)?;
        let shares: Vec<_> = inbound.iter().map(waiting).collect();
        assert_eq!(shares.iter().sum::<usize>(), clients.len(), "{left} are left: {shares:?}");
        ensure!(shares.iter().all(|share| *share >= EACH), "{left} are left: {shares:?}");
    }
    let mut client = stage.other.connect(to[0])?;
    let (mut server, _) = accept(inbound.first().context("the last lane")?)?;
    talk(&mut client, &mut server)
}

#[test]
fn nobody_joins_a_listener_of_the_agent() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let mut stage = Stage::guarded()?;
    let lanes = Lanes::enrol(&mut stage.kernel, &stage.db)?;
    let at = lanes.inbound[0].local_addr()?;
    let intruder = stage.db.netns.run(|| {
        let socket = Socket::new(Domain::for_address(at), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_only_v6(false)?;
        socket.set_freebind_v6(true)?;
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(true)?;
        Ok(socket.bind(&at.into()).and_then(|()| socket.listen(128)))
    })?;
    assert_eq!(intruder.err().context("joined")?.kind(), std::io::ErrorKind::AddrInUse);
    let to = stage.db.addresses.map(|address| SocketAddr::new(address, 8080));
    let _clients = connect(&stage.other, to, EACH * LANES)?;
    let shares: Vec<_> = lanes.inbound.iter().map(waiting).collect();
    assert_eq!(shares, [EACH; LANES]);
    Ok(())
}
