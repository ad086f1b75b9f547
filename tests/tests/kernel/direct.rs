//! Pods on one node reach each other without a proxy, as far as policy allows.

use crate::stage::{Stage, accept, nobody, policy, talk};
use anyhow::{Context, Result};
use std::net::SocketAddr;
use weft_agent::kernel::ArrivalKind;
use weft_model::policy::Action;
use weft_tests::require_kernel;

#[test]
fn a_pod_reaches_another_on_the_node_directly() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let stage = Stage::new()?;
    let app = stage.db.listen(8080)?;
    for address in stage.db.addresses {
        let to = SocketAddr::new(address, 8080);
        let mut client = stage.web.connect(to)?;
        let (mut server, peer) = accept(&app)?;
        assert_eq!((peer, client.peer_addr()?), (client.local_addr()?, to));
        let found = stage.kernel.arrivals()?.find(stage.db.cookie, peer, to).context("no record")?;
        assert_eq!((found.kind, found.source), (ArrivalKind::Direct, stage.web.cookie));
        talk(&mut client, &mut server)?;
        drop(client);
        drop(server);
    }
    nobody(&stage.web.outbound)?;
    nobody(&stage.db.inbound)?;
    assert_eq!(stage.counter("direct")?, 2);
    Ok(())
}

#[test]
fn a_closed_port_is_refused_by_the_application_s_own_kernel() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let stage = Stage::new()?;
    for address in stage.db.addresses {
        let refused = stage.web.try_connect(SocketAddr::new(address, 9))?;
        assert_eq!(refused.err().context("connected")?.kind(), std::io::ErrorKind::ConnectionRefused);
    }
    Ok(())
}

#[test]
fn policy_refuses_with_a_clear_errno_and_changes_at_once() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let mut stage = Stage::new()?;
    let app = stage.db.listen(8080)?;
    let special = stage.db.listen(9090)?;
    let web = |stage: &Stage, port| stage.web.try_connect(SocketAddr::new(stage.db.addresses[0], port));
    // Nobody is named: whoever comes is refused.
    stage.apply(vec![policy("some", Action::Allow, &["nobody"], &[])])?;
    for address in stage.db.addresses {
        let refused = stage.web.try_connect(SocketAddr::new(address, 8080))?;
        assert_eq!(refused.err().context("connected")?.raw_os_error(), Some(libc::EACCES));
    }
    assert_eq!(stage.counter("denied")?, 2);
    stage.apply(vec![policy("some", Action::Allow, &["web"], &[])])?;
    web(&stage, 8080)??;
    accept(&app)?;
    stage.apply(vec![policy("special", Action::Deny, &["web"], &[9090])])?;
    assert_eq!(web(&stage, 9090)?.err().context("connected")?.raw_os_error(), Some(libc::EACCES));
    web(&stage, 8080)??;
    accept(&app)?;
    nobody(&special)?;
    // The other way round nothing was said: `db` is not `web`.
    let back = stage.db.try_connect(SocketAddr::new(stage.web.addresses[0], 8080))?;
    assert_eq!(back.err().context("connected")?.raw_os_error(), Some(libc::EACCES));
    Ok(())
}

#[test]
fn a_change_of_one_policy_writes_only_what_it_changes() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let mut stage = Stage::new()?;
    assert_eq!(stage.reconcile()?, 0, "nothing changed");
    stage.store.apply(vec![policy("some", Action::Allow, &["web"], &[])]);
    // Four addresses lose "all may come", each way between the two gets its answer, and both are closed to plaintext.
    assert_eq!(stage.reconcile()?, 8);
    stage.store.apply(vec![policy("special", Action::Deny, &["web"], &[9090])]);
    // The answer for the other way is the same on that port: refused anyway.
    assert_eq!(stage.reconcile()?, 1);
    Ok(())
}
