//! Connections that reach an enrolled pod from outside the mesh, from the node, and from the agent itself.

use crate::stage::{PATIENCE, Stage, accept, canonical, nobody, talk};
use anyhow::{Context, Result};
use socket2::{Domain, Protocol, Socket, Type};
use std::{
    fs::File,
    net::{SocketAddr, TcpListener, TcpStream},
    os::fd::AsFd,
};
use weft_agent::kernel::{ArrivalKind, DELIVERY_MARK, Enrolment, EnrolmentFlags};
use weft_tests::require_kernel;

#[test]
fn an_unmeshed_client_lands_on_the_agent_with_the_original_addresses() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let stage = Stage::guarded()?;
    let app = stage.db.listen(8080)?;
    let app_on_15008 = stage.db.listen(15008)?;
    for address in stage.db.addresses {
        for (port, listener) in [(8080, &stage.db.inbound), (9, &stage.db.inbound), (15008, &stage.db.hbone)]
        {
            let to = SocketAddr::new(address, port);
            let mut client = stage.other.connect(to)?;
            let (mut agent, peer) = accept(listener).with_context(|| to.to_string())?;
            assert_eq!(canonical(agent.local_addr()?), to);
            assert_eq!(peer, client.local_addr()?);
            assert_eq!(stage.kernel.arrivals()?.find(stage.db.cookie, peer, to), None);
            talk(&mut client, &mut agent)?;
        }
    }
    nobody(&app)?;
    nobody(&app_on_15008)
}

#[test]
fn a_listener_of_the_agent_is_found_by_nobody_and_its_port_is_the_application_s() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let stage = Stage::guarded()?;
    let port = stage.db.inbound.local_addr()?.port();
    // From the pod itself there is nobody at that port: not on its addresses, not on the loopback.
    let own = stage.db.addresses.into_iter().chain(["127.0.0.1".parse()?, "::1".parse()?]);
    for address in own.clone() {
        let refused = stage.db.try_connect(SocketAddr::new(address, port))?;
        assert_eq!(refused.err().context("connected")?.kind(), std::io::ErrorKind::ConnectionRefused);
    }
    // An application may have it, on the addresses that it names, and is reached there.
    for address in own {
        let app = stage.db.netns.run(|| Ok(TcpListener::bind((address, port))?))?;
        let mut client = stage.db.connect(SocketAddr::new(address, port))?;
        talk(&mut client, &mut app.accept()?.0)?;
    }
    // From outside it is a port like any other: captured, with its own address.
    for address in stage.db.addresses {
        let to = SocketAddr::new(address, port);
        let _client = stage.other.connect(to)?;
        let (agent, _) = accept(&stage.db.inbound)?;
        assert_eq!(canonical(agent.local_addr()?), to);
    }
    [&stage.db.outbound, &stage.db.inbound, &stage.db.hbone].into_iter().try_for_each(nobody)
}

#[test]
fn a_pod_that_took_the_node_s_address_is_not_taken_for_the_node() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let stage = Stage::guarded()?;
    let app = stage.db.listen(8080)?;
    let to = SocketAddr::new(stage.db.addresses[0], 8080);
    stage.other.netns.ip(&["addr add 10.77.0.1/32 dev lo".into()])?;
    let before = (stage.counter("admitted")?, stage.counter("steered")?);
    // The answer goes to the node, which has the address, too: the connection cannot come to be.
    let from: SocketAddr = "10.77.0.1:0".parse()?;
    stage.other.netns.run(|| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
        socket.bind(&from.into())?;
        Ok(socket.connect_timeout(&to.into(), std::time::Duration::from_millis(300)).is_err())
    })?;
    assert_eq!(stage.counter("admitted")?, before.0);
    assert!(stage.counter("steered")? > before.1);
    nobody(&app)
}

#[test]
fn the_node_reaches_its_pods_directly() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let stage = Stage::new()?;
    let app = stage.db.listen(8080)?;
    for address in stage.db.addresses {
        let to = SocketAddr::new(address, 8080);
        let mut client = stage.node.run(|| Ok(TcpStream::connect_timeout(&to, PATIENCE)?))?;
        let (mut server, peer) = accept(&app)?;
        let found = stage.kernel.arrivals()?.find(stage.db.cookie, peer, to).context("no record")?;
        assert_eq!(found.kind, ArrivalKind::Node);
        talk(&mut client, &mut server)?;
    }
    nobody(&stage.db.inbound)
}

#[test]
fn only_a_registered_agent_s_marked_connection_is_a_delivery() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let mut stage = Stage::guarded()?;
    let app = stage.web.listen(8080)?;
    let app_elsewhere = stage.db.listen(8080)?;
    // This process plays the agent; what it opens from now on is the agent's.
    stage.kernel.register_agent(std::process::id())?;
    let connect = |to: SocketAddr, mark: u32| {
        stage.web.netns.run(|| {
            let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
            socket.set_mark(mark)?;
            socket.connect_timeout(&to.into(), PATIENCE)?;
            Ok(TcpStream::from(socket))
        })
    };
    for address in stage.web.addresses {
        let to = SocketAddr::new(address, 8080);
        let mut client = connect(to, DELIVERY_MARK)?;
        let (mut server, _) = accept(&app)?;
        talk(&mut client, &mut server)?;
        // Without the mark it is a stranger at its own door, and goes to the agent like one.
        let _client = connect(to, 0)?;
        accept(&stage.web.inbound)?;
    }
    // An HBONE dial to another pod on the node is no delivery, whatever its mark.
    for mark in [0, DELIVERY_MARK] {
        let _client = connect(SocketAddr::new(stage.db.addresses[0], 15008), mark)?;
        accept(&stage.db.hbone)?;
        let _client = connect(SocketAddr::new(stage.db.addresses[0], 8080), mark)?;
        accept(&stage.db.inbound)?;
    }
    nobody(&app_elsewhere)?;
    stage.kernel.unregister_agent(std::process::id())?;
    Ok(())
}

#[test]
fn an_application_can_bind_its_port_again_while_the_agent_holds_connections_to_it() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let stage = Stage::guarded()?;
    for port in [8080, 15001, 15006, 15008] {
        // std's listeners set SO_REUSEADDR, as servers do.
        drop(stage.db.listen(port)?);
        let _client = stage.other.connect(SocketAddr::new(stage.db.addresses[0], port))?;
        let _held = accept(if port == 15008 { &stage.db.hbone } else { &stage.db.inbound })?;
        stage.db.listen(port).with_context(|| format!("port {port}"))?;
    }
    Ok(())
}

#[test]
fn a_second_listener_takes_over_when_the_first_is_gone() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let mut stage = Stage::guarded()?;
    let spare = stage.db.outbound.try_clone()?;
    stage.kernel.enrol(&Enrolment {
        netns: File::open(stage.db.netns.path())?.as_fd(),
        cookie: stage.db.cookie,
        addresses: &stage.db.addresses,
        outbound: &[stage.db.outbound.as_fd()],
        inbound: &[stage.db.inbound.as_fd(), spare.as_fd()],
        hbone: &[stage.db.hbone.as_fd()],
        flags: EnrolmentFlags::default(),
    })?;
    let to = SocketAddr::new(stage.db.addresses[0], 8080);
    let _client = stage.other.connect(to)?;
    accept(&stage.db.inbound)?;
    drop(stage.db.inbound);
    let _client = stage.other.connect(to)?;
    accept(&spare)?;
    Ok(())
}
