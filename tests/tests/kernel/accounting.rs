//! What the kernel tells of connections.

use crate::stage::{PATIENCE, REMOTE, Stage, accept, at, policy};
use anyhow::{Context, Result, ensure};
use socket2::SockRef;
use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    time::{Duration, Instant},
};
use weft_agent::kernel::{Ending, Event, EventKind, Flow, Verdict};
use weft_model::policy::Action;
use weft_tests::require_kernel;

/// Reads events until `enough` says so.
pub fn collect(stage: &Stage, enough: impl Fn(&[Event]) -> bool) -> Result<Vec<Event>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut reader = stage.kernel.events()?;
        let mut events = Vec::new();
        let until = Instant::now() + PATIENCE;
        while !enough(&events) {
            ensure!(Instant::now() < until, "events missing, there are only {events:#?}");
            if let Ok(read) = tokio::time::timeout(Duration::from_millis(500), reader.next(&mut events)).await
            {
                read?;
            }
        }
        Ok(events)
    })
}

#[test]
fn direct_and_captured_connections_are_accounted_alike() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let stage = Stage::new()?;
    let app = stage.db.listen(8080)?;
    let direct = SocketAddr::new(stage.db.addresses[1], 8080);
    let captured = at(REMOTE[0], 443);
    let mut locals = Vec::new();
    for (to, listener) in [(direct, &app), (captured, &stage.web.outbound)] {
        let mut client = stage.web.connect(to)?;
        locals.push(client.local_addr()?);
        let (mut server, _) = accept(listener)?;
        client.write_all(&[1; 1000])?;
        server.read_exact(&mut [0; 1000])?;
        server.write_all(&[2; 3000])?;
        client.read_exact(&mut [0; 3000])?;
        let live = stage.kernel.flows()?.all();
        let flow = live.iter().find(|f| f.client == Some(locals[locals.len() - 1])).context("not live")?;
        assert_eq!((flow.original, flow.established), (to, true));
        // The client's end is closed first, and comes to rest by itself.
        drop(client);
        drop(server);
    }
    let closed = |events: &[Event]| events.iter().filter(|e| e.kind == EventKind::Close).count() == 2;
    let events = collect(&stage, closed)?;
    let of = |kind, to| -> Result<Flow> {
        let found = events.iter().find(|e| e.kind == kind && e.flow.original == to);
        Ok(found.with_context(|| format!("no {kind:?} of {to}: {events:#?}"))?.flow)
    };
    for (to, verdict, destination) in
        [(direct, Verdict::Direct, Some(stage.db.cookie)), (captured, Verdict::Agent, None)]
    {
        let open = of(EventKind::Open, to)?;
        assert_eq!((open.verdict, open.source, open.destination), (verdict, stage.web.cookie, destination));
        ensure!(open.client.is_some_and(|c| locals.contains(&c)), "{open:?}");
        let close = of(EventKind::Close, to)?;
        assert_eq!((close.bytes_sent, close.bytes_received), (1000, 3000));
        ensure!(close.established && close.srtt > Duration::ZERO && close.updated > open.opened, "{close:?}");
        assert_eq!(close.socket, open.socket);
    }
    ensure!(stage.kernel.flows()?.all().is_empty(), "closed connections are not live");
    assert_eq!((stage.counter("events_lost")?, stage.counter("records_lost")?), (0, 0));
    Ok(())
}

#[test]
fn a_refusal_by_policy_and_one_by_the_peer_are_told() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let mut stage = Stage::new()?;
    let closed = SocketAddr::new(stage.db.addresses[0], 9);
    ensure!(stage.web.try_connect(closed)?.is_err());
    stage.apply(vec![policy("none", Action::Allow, &["nobody"], &[])])?;
    let denied = SocketAddr::new(stage.db.addresses[0], 8080);
    ensure!(stage.web.try_connect(denied)?.is_err());
    let events = collect(&stage, |events| events.len() >= 2)?;
    let [first, second] = events[..] else { anyhow::bail!("{events:#?}") };
    assert_eq!((first.kind, first.flow.original, first.flow.established), (EventKind::Close, closed, false));
    assert_eq!((second.kind, second.flow.original), (EventKind::Deny, denied));
    assert_eq!((second.flow.verdict, second.flow.client), (Verdict::Deny, None));
    assert_eq!((second.flow.source, second.flow.destination), (stage.web.cookie, Some(stage.db.cookie)));
    Ok(())
}

#[test]
fn figures_of_a_live_connection_are_those_of_the_instant() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let stage = Stage::new()?;
    let app = stage.db.listen(8080)?;
    let mut client = stage.web.connect(SocketAddr::new(stage.db.addresses[0], 8080))?;
    let (mut server, _) = accept(&app)?;
    for round in 1..=3 {
        client.write_all(&[0; 100])?;
        server.read_exact(&mut [0; 100])?;
        server.write_all(&[0; 10])?;
        client.read_exact(&mut [0; 10])?;
        let live = stage.kernel.flows()?.all();
        let [flow] = live[..] else { anyhow::bail!("one connection is live, not {live:#?}") };
        assert_eq!((flow.client, flow.verdict), (Some(client.local_addr()?), Verdict::Direct));
        assert_eq!((flow.source, flow.destination), (stage.web.cookie, Some(stage.db.cookie)));
        assert_eq!((flow.bytes_sent, flow.bytes_received), (100 * round, 10 * round));
        ensure!(flow.updated > flow.opened && flow.srtt > Duration::ZERO, "{flow:?}");
    }
    Ok(())
}

/// What one side does to end a connection.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    /// Closes it.
    Close,
    /// Ends what it sends, and goes on listening.
    HalfClose,
    /// Closes it with a reset.
    Reset,
    /// Closes it without having read what came.
    Unread,
}

impl End {
    fn of(self, stream: TcpStream, other: &mut TcpStream) -> Result<Option<TcpStream>> {
        match self {
            Self::Close => {}
            Self::HalfClose => {
                stream.shutdown(Shutdown::Write)?;
                return Ok(Some(stream));
            }
            Self::Reset => SockRef::from(&stream).set_linger(Some(Duration::ZERO))?,
            Self::Unread => {
                other.write_all(b"never read")?;
                stream.peek(&mut [0])?;
            }
        }
        drop(stream);
        Ok(None)
    }
}

#[test]
fn a_reset_is_told_by_the_side_it_came_from_and_an_end_in_peace_is_none() -> Result<()> {
    use End::{Close, HalfClose, Reset, Unread};
    if !require_kernel() {
        return Ok(());
    }
    let stage = Stage::new()?;
    let app = stage.db.listen(8080)?;
    // Who ends first and how, how the other ends, and what is told where the client is the first.
    let ends = [
        (Close, Close, Ending::Peace),
        (HalfClose, Close, Ending::Peace),
        (Reset, Close, Ending::ClientReset),
        (Unread, Close, Ending::ClientReset),
        (HalfClose, Reset, Ending::ServerReset),
    ];
    let mut expected = Vec::new();
    for (from, verdict) in [(&stage.web, Verdict::Direct), (&stage.other, Verdict::Plain)] {
        for (index, (first, second, ending)) in ends.into_iter().enumerate() {
            for client_first in [true, false] {
                let client = from.connect(SocketAddr::new(stage.db.addresses[index % 2], 8080))?;
                let (server, peer) = accept(&app)?;
                let (early, mut late) = if client_first { (client, server) } else { (server, client) };
                late.set_read_timeout(Some(PATIENCE))?;
                let half = first.of(early, &mut late)?;
                let seen = late.read(&mut [0; 16]);
                ensure!(seen.is_err() == matches!(first, Reset | Unread), "{first:?}: {seen:?}");
                if let Some(mut early) = half {
                    second.of(late, &mut early)?;
                    ensure!(early.read(&mut [0]).is_err() == (second == Reset), "{second:?} after {first:?}");
                } else {
                    drop(late);
                }
                let other_way = match ending {
                    Ending::ClientReset => Ending::ServerReset,
                    Ending::ServerReset => Ending::ClientReset,
                    Ending::Peace => Ending::Peace,
                };
                let told = if client_first { ending } else { other_way };
                expected.push((peer, verdict, told, format!("{first:?}, then {second:?}")));
            }
        }
    }
    let closed = |events: &[Event]| -> Vec<Flow> {
        events.iter().filter(|e| e.kind == EventKind::Close).map(|e| e.flow).collect()
    };
    let flows = closed(&collect(&stage, |events| closed(events).len() == expected.len())?);
    for (peer, verdict, ending, how) in expected {
        let flow =
            flows.iter().find(|f| f.client == Some(peer)).with_context(|| format!("{peer}: {flows:#?}"))?;
        assert_eq!((flow.verdict, flow.ending), (verdict, ending), "{how} of {peer}");
    }
    Ok(())
}
