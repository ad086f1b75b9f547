//! Connections that go to the agent are spread over its lanes.

use crate::stage::{REMOTE, Stage, TestPod, accept, agent_listener, at, talk};
use anyhow::{Context, Result, ensure};
use std::{
    fs::File,
    net::{SocketAddr, TcpListener, TcpStream},
    os::fd::{AsFd, BorrowedFd},
};
use weft_agent::kernel::{Enrolment, EnrolmentFlags, Kernel};
use weft_tests::require_kernel;

/// How many lanes the agent of these tests has.
const LANES: usize = 3;
/// How many connections each lane is to get.
const EACH: usize = 4;

/// The listeners of one pod, lane by lane: of each role a SO_REUSEPORT group, as the agent's are.
struct Lanes {
    outbound: Vec<TcpListener>,
    inbound: Vec<TcpListener>,
    hbone: Vec<TcpListener>,
}

impl Lanes {
    fn enrol(kernel: &mut Kernel, pod: &TestPod) -> Result<Self> {
        let lanes = pod.netns.run(|| Ok(Self { outbound: group()?, inbound: group()?, hbone: group()? }))?;
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

fn group() -> Result<Vec<TcpListener>> {
    let first = agent_listener(None)?;
    let beside = first.local_addr()?;
    let others = (1..LANES).map(|_| agent_listener(Some(beside)));
    std::iter::once(Ok(first)).chain(others).collect()
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
fn whoever_joins_the_group_of_a_port_gets_nothing() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let mut stage = Stage::guarded()?;
    let lanes = Lanes::enrol(&mut stage.kernel, &stage.db)?;
    let port = lanes.inbound[0].local_addr()?;
    let intruder = stage.db.netns.run(|| agent_listener(Some(port)))?;
    let to = stage.db.addresses.map(|address| SocketAddr::new(address, 8080));
    let _clients = connect(&stage.other, to, 4 * EACH * LANES)?;
    assert_eq!(waiting(&intruder), 0);
    let shares: Vec<_> = lanes.inbound.iter().map(waiting).collect();
    assert_eq!(shares, [4 * EACH; LANES]);
    Ok(())
}
