//! Connections to workloads elsewhere reach the agent, and the application does not notice.

use crate::stage::{
    REMOTE, SERVICE_PORT, Stage, TARGET_PORT, VIP, accept, at, canonical, catalog, nobody, talk,
};
use anyhow::{Context, Result, ensure};
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
};
use weft_agent::kernel::{ArrivalKind, EnrolmentFlags};
use weft_tests::require_kernel;

#[test]
fn a_captured_connection_keeps_its_addresses_on_both_sides() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let stage = Stage::new()?;
    let arrivals = stage.kernel.arrivals()?;
    for host in REMOTE {
        let to = at(host, 443);
        let mut client = stage.web.connect(to)?;
        let (mut agent, peer) = accept(&stage.web.outbound)?;
        assert_eq!(client.peer_addr()?, to, "the application sees what it asked for");
        assert_eq!(client.local_addr()?.ip(), stage.web.address(to.ip()), "and comes from its own address");
        assert_eq!(peer, client.local_addr()?);
        let found = arrivals
            .find(stage.web.cookie, peer, canonical(agent.local_addr()?))
            .context("the arrival is not recorded")?;
        assert_eq!((found.kind, found.original, found.source), (ArrivalKind::Captured, to, stage.web.cookie));
        assert_eq!((found.backend, found.remote_only), (None, false));
        talk(&mut client, &mut agent)?;
    }
    assert_eq!(stage.counter("captured")?, 2);
    Ok(())
}

#[test]
fn what_was_written_before_a_quick_end_is_not_lost() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let stage = Stage::new()?;
    for host in REMOTE {
        let to = at(host, 514);
        let mut client = stage.web.connect(to)?;
        client.write_all(b"fire and forget")?;
        drop(client);
        // The agent is busy: by the time it looks, the client's socket is no more.
        std::thread::sleep(std::time::Duration::from_millis(100));
        let (mut agent, peer) = accept(&stage.web.outbound)?;
        let found = stage.kernel.arrivals()?.find(stage.web.cookie, peer, canonical(agent.local_addr()?));
        assert_eq!(found.context("no record")?.original, to);
        let mut got = String::new();
        agent.read_to_string(&mut got)?;
        assert_eq!(got, "fire and forget");
    }
    Ok(())
}

#[test]
fn an_ipv6_socket_that_connects_to_a_mapped_address_is_captured() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let stage = Stage::new()?;
    let mapped: SocketAddr = format!("[::ffff:{}]:443", REMOTE[0]).parse()?;
    let mut client = stage.web.connect(mapped)?;
    let (mut agent, peer) = accept(&stage.web.outbound)?;
    assert_eq!(client.peer_addr()?, mapped);
    assert_eq!(canonical(client.local_addr()?), peer);
    assert_eq!(peer.ip(), stage.web.addresses[0]);
    let found = stage.kernel.arrivals()?.find(stage.web.cookie, peer, canonical(agent.local_addr()?));
    assert_eq!(found.context("no record")?.original, at(REMOTE[0], 443));
    talk(&mut client, &mut agent)
}

#[test]
fn a_service_is_spread_and_keeps_its_virtual_address() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let mut stage = Stage::new()?;
    let remote = REMOTE.map(|a| a.parse().expect("an address"));
    stage.apply(catalog(&[("db", &stage.db.addresses), ("remote", &remote)]))?;
    let app = stage.db.listen(TARGET_PORT)?;
    let arrivals = stage.kernel.arrivals()?;
    for host in VIP {
        let to = at(host, SERVICE_PORT);
        let (mut direct, mut captured) = (0, 0);
        // Two endpoints: a hundred picks that all fall on one of them do not happen.
        for _ in 0..100 {
            let mut client = stage.web.connect(to)?;
            assert_eq!(client.peer_addr()?, to);
            if let Ok((agent, peer)) = stage.web.outbound.accept() {
                captured += 1;
                let found = arrivals.find(stage.web.cookie, canonical(peer), canonical(agent.local_addr()?));
                let found = found.context("no record")?;
                assert_eq!((found.original, found.backend, found.remote_only), (to, None, true));
            } else {
                direct += 1;
                let (mut server, peer) = accept(&app)?;
                assert_eq!(peer, client.local_addr()?);
                talk(&mut client, &mut server)?;
            }
        }
        ensure!(direct > 0 && captured > 0, "{direct} direct, {captured} captured");
    }
    let to = at(VIP[0], SERVICE_PORT + 1);
    stage.web.connect(to)?;
    accept(&stage.web.outbound).context("a port that the service does not have is the agent's to refuse")?;
    Ok(())
}

#[test]
fn what_the_mesh_does_not_know_passes() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let stage = Stage::new()?;
    let app = stage.other.listen(7000)?;
    for address in stage.other.addresses {
        let to = SocketAddr::new(address, 7000);
        let mut client = stage.web.connect(to)?;
        let (mut server, peer) = accept(&app)?;
        assert_eq!((peer, client.peer_addr()?), (client.local_addr()?, to));
        talk(&mut client, &mut server)?;
    }
    nobody(&stage.web.outbound)
}

#[test]
fn a_pod_reaches_itself_and_its_loopback() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let stage = Stage::new()?;
    stage.web.netns.ip(&["addr add 10.77.9.9/32 dev lo".into()])?;
    let app = stage.web.listen(8080)?;
    let own = stage.web.addresses.map(|a| a.to_string());
    let hosts = ["127.0.0.1", "127.8.8.8", "::1", &own[0], &own[1], "10.77.9.9", "::ffff:127.0.0.1"];
    for host in hosts {
        let mut client = stage.web.connect(at(host, 8080)).with_context(|| host.to_owned())?;
        let (mut server, _) = accept(&app).with_context(|| host.to_owned())?;
        talk(&mut client, &mut server)?;
    }
    nobody(&stage.web.inbound)?;
    nobody(&stage.web.outbound)
}

#[test]
fn always_encrypt_takes_the_agent_also_on_the_node() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let mut stage = Stage::new()?;
    stage.enrol(EnrolmentFlags { always_encrypt: true })?;
    for address in stage.db.addresses {
        let to = SocketAddr::new(address, 8080);
        let _client = stage.web.connect(to)?;
        accept(&stage.web.outbound)?;
    }
    Ok(())
}

#[test]
fn without_the_agent_nothing_leaves_the_pod_and_nothing_enters() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let Stage { kernel, web, db, other, node, run: _run, .. } = Stage::guarded()?;
    let app = db.listen(8080)?;
    let to = SocketAddr::new(db.addresses[0], 8080);
    // The agent is gone for good: so are its listeners, and the pins stay.
    drop((kernel, web.outbound, web.inbound, web.hbone, db.outbound, db.inbound, db.hbone));
    let connect = |from: &weft_tests::Netns, to| {
        from.run(|| Ok(TcpStream::connect_timeout(&to, crate::stage::PATIENCE)))
    };
    for host in REMOTE {
        let refused = connect(&web.netns, at(host, 443))?;
        assert_eq!(refused.err().context("connected")?.kind(), std::io::ErrorKind::ConnectionRefused);
    }
    let refused = connect(&other.netns, to)?;
    assert_eq!(refused.err().context("connected")?.kind(), std::io::ErrorKind::ConnectionRefused);
    nobody(&app)?;
    // What needs no agent goes on: between pods on the node, and from the node itself.
    for from in [&web.netns, &node] {
        let mut client = connect(from, to)??;
        talk(&mut client, &mut accept(&app)?.0)?;
    }
    Ok(())
}

#[test]
fn while_there_is_no_room_for_all_addresses_unknown_ones_are_the_agent_s() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    // `web`, `db` and `remote` have six.
    let mut stage = Stage::with_room_for(Some(6))?;
    let app = stage.other.listen(7000)?;
    let to = SocketAddr::new(stage.other.addresses[0], 7000);
    stage.web.connect(to)?;
    accept(&app)?;
    let extra: std::net::IpAddr = "10.77.9.9".parse()?;
    stage.store.apply(vec![crate::stage::workload("extra", &[extra])]);
    let full = stage.try_reconcile().err().context("it fits")?.to_string();
    assert!(full.contains("DESTINATIONS") && full.contains("full"), "{full}");
    for to in [to, SocketAddr::new(extra, 443)] {
        let client = stage.web.connect(to)?;
        let (agent, peer) = accept(&stage.web.outbound)?;
        let local = canonical(agent.local_addr()?);
        let found = stage.kernel.arrivals()?.find(stage.web.cookie, peer, local).context("no record")?;
        assert_eq!((found.original, client.peer_addr()?), (to, to));
    }
    stage.apply(vec![weft_model::Delta::WorkloadGone("extra".into())])?;
    stage.web.connect(to)?;
    accept(&app).map(drop)
}
