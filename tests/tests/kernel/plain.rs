//! Connections from outside the mesh that the policies allow whoever it is: the kernel lets them in by itself.

use crate::{
    accounting::collect,
    stage::{Stage, accept, at, by_match, nobody, talk},
};
use anyhow::{Context, Result, ensure};
use std::{
    io::{Read, Write},
    net::SocketAddr,
    sync::Arc,
};
use weft_agent::{
    inbound::cut_refused,
    kernel::{Event, EventKind, Verdict},
    pods::{Pod, PodSpec},
};
use weft_model::policy::{Action, Match, StringMatch};
use weft_tests::require_kernel;

#[test]
fn the_application_sees_the_client_s_own_address_and_port() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let stage = Stage::new()?;
    let app = stage.db.listen(8080)?;
    for address in stage.db.addresses {
        let to = SocketAddr::new(address, 8080);
        let mut client = stage.other.connect(to)?;
        let (mut server, peer) = accept(&app)?;
        assert_eq!(peer, client.local_addr()?);
        assert_eq!(crate::stage::canonical(server.peer_addr()?), peer);
        talk(&mut client, &mut server)?;
        let closed = stage.other.try_connect(SocketAddr::new(address, 9))?;
        assert_eq!(closed.err().context("connected")?.kind(), std::io::ErrorKind::ConnectionRefused);
        // A tunnel is the agent's in any case.
        let _client = stage.other.connect(SocketAddr::new(address, 15008))?;
        accept(&stage.db.hbone)?;
    }
    nobody(&stage.db.inbound)
}

#[test]
fn it_is_accounted_at_the_server_whoever_closes_first() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let stage = Stage::new()?;
    let app = stage.db.listen(8080)?;
    let mut clients = Vec::new();
    for (address, client_first) in [(stage.db.addresses[0], true), (stage.db.addresses[1], false)] {
        let to = SocketAddr::new(address, 8080);
        let mut client = stage.other.connect(to)?;
        let (mut server, peer) = accept(&app)?;
        client.write_all(&[1; 1000])?;
        server.read_exact(&mut [0; 1000])?;
        server.write_all(&[2; 3000])?;
        client.read_exact(&mut [0; 3000])?;
        let live = stage.kernel.flows()?.all();
        let [flow] = live[..] else { anyhow::bail!("one connection is live, not {live:#?}") };
        assert_eq!((flow.verdict, flow.source, flow.destination), (Verdict::Plain, 0, Some(stage.db.cookie)));
        assert_eq!((flow.client, flow.original, flow.established), (Some(peer), to, true));
        assert_eq!((flow.bytes_sent, flow.bytes_received), (1000, 3000));
        let (first, mut last) = if client_first { (client, server) } else { (server, client) };
        drop(first);
        ensure!(last.read(&mut [0; 1])? == 0, "not a clean end");
        clients.push((peer, to));
    }
    let closed = |events: &[Event]| events.iter().filter(|e| e.kind == EventKind::Close).count() == 2;
    let events = collect(&stage, closed)?;
    ensure!(events.len() == 4, "{events:#?}");
    for (peer, to) in clients {
        for kind in [EventKind::Open, EventKind::Close] {
            let found = events.iter().find(|e| e.kind == kind && e.flow.client == Some(peer));
            let flow = found.with_context(|| format!("no {kind:?} of {peer}: {events:#?}"))?.flow;
            assert_eq!((flow.verdict, flow.original), (Verdict::Plain, to));
            assert_eq!((flow.source, flow.destination), (0, Some(stage.db.cookie)));
            let bytes = if kind == EventKind::Open { (0, 0) } else { (1000, 3000) };
            assert_eq!((flow.bytes_sent, flow.bytes_received), bytes);
        }
    }
    ensure!(stage.kernel.flows()?.all().is_empty(), "closed connections are not live");
    Ok(())
}

#[test]
fn what_the_agent_accepts_and_what_others_tell_of_is_not_told_again() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let stage = Stage::guarded()?;
    let app = stage.db.listen(8080)?;
    let to = SocketAddr::new(stage.db.addresses[0], 8080);
    let mut client = stage.other.connect(to)?;
    let (mut agent, _) = accept(&stage.db.inbound)?;
    talk(&mut client, &mut agent)?;
    // From the node, from the pod itself over both ways, and from another pod.
    let connect = || Ok(std::net::TcpStream::connect_timeout(&to, crate::stage::PATIENCE)?);
    let mut held =
        vec![(stage.node.run(connect)?, accept(&app)?), (stage.db.netns.run(connect)?, accept(&app)?)];
    held.push((stage.db.connect(at("127.0.0.1", 8080))?, accept(&app)?));
    held.push((stage.web.connect(to)?, accept(&app)?));
    let live = stage.kernel.flows()?.all();
    ensure!(live.iter().all(|flow| flow.verdict != Verdict::Plain), "{live:#?}");
    ensure!(live.iter().filter(|flow| flow.verdict == Verdict::Direct).count() == 1, "{live:#?}");
    Ok(())
}

#[test]
fn what_policies_refuse_or_judge_by_address_is_the_agent_s_at_once() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let mut stage = Stage::new()?;
    let app = stage.db.listen(8080)?;
    let strict = Match { not_principals: vec![StringMatch::Presence], ..Match::default() };
    let on = |port| Match { destination_ports: vec![port], ..Match::default() };
    let nowhere = Match { source_ips: vec!["192.0.2.0/24".parse()?], ..Match::default() };
    // Each of these, in place of the one before: its conditions, and whether the kernel lets in on port 8080.
    let policies = [
        (vec![strict.clone()], false),
        (vec![strict.clone(), on(9090)], true),
        (vec![strict, on(8080)], false),
        (vec![nowhere], false),
        (vec![on(9090)], true),
    ];
    for (number, (all, open)) in policies.into_iter().enumerate() {
        stage.apply(vec![by_match("p", Action::Deny, all)])?;
        for address in stage.db.addresses {
            let mut client = stage.other.connect(SocketAddr::new(address, 8080))?;
            let (mut server, peer) = accept(if open { &app } else { &stage.db.inbound })
                .with_context(|| format!("policy {number}, {address}"))?;
            assert_eq!(peer, client.local_addr()?);
            talk(&mut client, &mut server)?;
        }
        nobody(&app)?;
        nobody(&stage.db.inbound)?;
    }
    Ok(())
}

#[test]
fn a_pod_that_is_not_yet_reconciled_is_guarded_by_the_agent() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let mut stage = Stage::new()?;
    let to = SocketAddr::new(stage.db.addresses[0], 8080);
    stage.kernel.leave(stage.db.cookie)?;
    crate::stage::enrol(&mut stage.kernel, &stage.db, Default::default())?;
    let _client = stage.other.connect(to)?;
    accept(&stage.db.inbound)?;
    stage.reconcile()?;
    let app = stage.db.listen(8080)?;
    let _client = stage.other.connect(to)?;
    accept(&app).map(drop)
}

#[test]
fn a_policy_that_comes_later_cuts_them_and_no_others() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let mut stage = Stage::new()?;
    let (app, other_port) = (stage.db.listen(8080)?, stage.db.listen(9090)?);
    let spec = PodSpec::new("shop", "db", stage.db.netns.path());
    let pods = [(stage.db.cookie, Arc::new(Pod::open(spec, "db".into())?))].into_iter().collect();
    let mut held = Vec::new();
    for address in stage.db.addresses {
        let pair = |port, listener| -> Result<_> {
            Ok((stage.other.connect(SocketAddr::new(address, port))?, accept(listener)?.0))
        };
        held.push((pair(8080, &app)?, pair(9090, &other_port)?));
    }
    let cut = |stage: &Stage| -> Result<usize> {
        Ok(cut_refused(&stage.store.load(), &stage.kernel.flows()?.all(), &pods))
    };
    assert_eq!(cut(&stage)?, 0);
    let strict = Match { not_principals: vec![StringMatch::Presence], ..Match::default() };
    let on = Match { destination_ports: vec![8080], ..Match::default() };
    stage.apply(vec![by_match("strict", Action::Deny, vec![strict, on])])?;
    assert_eq!(cut(&stage)?, 2);
    for ((mut client, mut server), (mut other_client, mut other_server)) in held {
        let ended = client.read(&mut [0; 1]).err().context("a clean end")?;
        assert_eq!(ended.kind(), std::io::ErrorKind::ConnectionReset);
        ensure!(server.read(&mut [0; 1]).is_err());
        talk(&mut other_client, &mut other_server)?;
    }
    assert_eq!(cut(&stage)?, 0);
    Ok(())
}
