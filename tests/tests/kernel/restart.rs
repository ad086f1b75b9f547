//! What survives the agent: pins, attachments, connections.

use crate::stage::{PATIENCE, REMOTE, Stage, accept, at, enrol, policy, talk};
use anyhow::{Context, Result, ensure};
use aya::maps::{HashMap, Map, MapData};
use std::{net::SocketAddr, time::Duration};
use tokio::time::timeout;
use weft_agent::kernel::{EnrolmentFlags, Event, EventKind, Kernel};
use weft_ebpf_abi::{VAULT_CHUNK, VAULT_CHUNKS, VERSION};
use weft_model::{Delta, policy::Action};
use weft_tests::require_kernel;

#[test]
fn a_new_agent_finds_everything_as_it_was() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let mut stage = Stage::new()?;
    stage.apply(vec![policy("web-only", Action::Allow, &["web"], &[])])?;
    let app = stage.db.listen(8080)?;
    let to = SocketAddr::new(stage.db.addresses[0], 8080);
    let mut before = stage.web.connect(to)?;
    let (mut served, _) = accept(&app)?;
    let programs = stage.kernel.stats()?.programs;
    stage.reload()?;
    talk(&mut before, &mut served)?;
    // Before the new agent did anything, and after.
    for step in 0..2 {
        let mut client = stage.web.connect(to)?;
        talk(&mut client, &mut accept(&app)?.0)?;
        let refused = stage.db.try_connect(SocketAddr::new(stage.web.addresses[0], 8080))?;
        assert_eq!(refused.err().context("connected")?.raw_os_error(), Some(libc::EACCES));
        stage.web.connect(at(REMOTE[0], 443))?;
        accept(&stage.web.outbound)?;
        let mut enrolled = [stage.web.cookie, stage.db.cookie];
        enrolled.sort_unstable();
        assert_eq!(stage.kernel.enrolled()?, enrolled);
        if step == 0 {
            assert_eq!(stage.reconcile()?, 0, "the maps say already what they should");
            stage.enrol(EnrolmentFlags::default())?;
            stage.kernel.attach()?;
            assert_eq!(stage.kernel.stats()?.programs, programs, "the same programs stay attached");
        }
    }
    Ok(())
}

#[test]
fn programs_that_do_not_fit_are_replaced_in_place() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let mut stage = Stage::new()?;
    let programs = stage.kernel.stats()?.programs;
    let app = stage.db.listen(8080)?;
    let to = SocketAddr::new(stage.db.addresses[0], 8080);
    // An agent that finds one attachment missing trusts none of them.
    std::fs::remove_file(stage.config.pin_dir.join("links/weft_getpeername4"))?;
    stage.reload()?;
    stage.enrol(EnrolmentFlags::default())?;
    stage.kernel.attach()?;
    let replaced = stage.kernel.stats()?.programs;
    assert_eq!(replaced.len(), programs.len());
    ensure!(replaced.iter().all(|p| programs.iter().all(|old| old.id != p.id)), "{replaced:?}");
    let mut client = stage.web.connect(to)?;
    talk(&mut client, &mut accept(&app)?.0)?;
    stage.web.connect(at(REMOTE[1], 443))?;
    accept(&stage.web.outbound)?;
    Ok(())
}

#[test]
fn a_pod_that_leaves_is_its_own_again() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let mut stage = Stage::new()?;
    let app = stage.db.listen(8080)?;
    let to = SocketAddr::new(stage.db.addresses[0], 8080);
    stage.kernel.leave(stage.db.cookie)?;
    stage.kernel.leave(stage.db.cookie)?;
    let mut client = stage.other.connect(to)?;
    talk(&mut client, &mut accept(&app)?.0)?;
    assert_eq!(stage.kernel.enrolled()?, [stage.web.cookie]);
    enrol(&mut stage.kernel, &stage.db, EnrolmentFlags::default())?;
    let _client = stage.other.connect(to)?;
    accept(&stage.db.inbound)?;
    Ok(())
}

#[test]
fn detaching_leaves_nothing_behind() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let stage = Stage::new()?;
    let app = stage.db.listen(8080)?;
    let pins = stage.config.pin_dir.clone();
    Kernel::detach_all(&pins)?;
    ensure!(!pins.exists());
    let mut client = stage.other.connect(SocketAddr::new(stage.db.addresses[1], 8080))?;
    talk(&mut client, &mut accept(&app)?.0)
}

#[test]
fn a_successor_reads_the_events_that_its_predecessor_did_not() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let stage = Stage::new()?;
    let app = stage.db.listen(8080)?;
    let call = || -> Result<SocketAddr> {
        let client = stage.web.connect(SocketAddr::new(stage.db.addresses[0], 8080))?;
        accept(&app)?;
        Ok(client.local_addr()?)
    };
    let second = stage.node.run(|| Ok(Kernel::load(&stage.config)?))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (mut old, mut new) = (stage.kernel.events()?, second.events()?);
        old.begin().await?;
        let first = call()?;
        let (mut by_old, mut by_new) = (Vec::new(), Vec::new());
        timeout(PATIENCE, old.next(&mut by_old)).await??;
        ensure!(timeout(Duration::from_millis(300), new.next(&mut by_new)).await.is_err(), "{by_new:?}");
        let later = call()?;
        drop(old);
        let has_later = |events: &[Event]| {
            events.iter().any(|e| e.kind == EventKind::Close && e.flow.client == Some(later))
        };
        while !has_later(&by_new) {
            timeout(PATIENCE, new.next(&mut by_new)).await??;
        }
        ensure!(by_old.iter().all(|e| e.flow.client == Some(first)), "{by_old:?}");
        ensure!(by_old.iter().all(|e| !by_new.contains(e)), "{by_old:?} {by_new:?}");
        Ok(())
    })
}

#[test]
fn a_successor_puts_right_what_its_predecessor_wrote_last() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let mut stage = Stage::new()?;
    let app = stage.db.listen(8080)?;
    let to = SocketAddr::new(stage.db.addresses[0], 8080);
    let successor = stage.node.run(|| Ok(Kernel::load(&stage.config)?))?;
    stage.apply(vec![policy("none", Action::Allow, &["nobody"], &[])])?;
    ensure!(stage.web.try_connect(to)?.is_err());
    // As far as the successor has read, everybody is allowed: by that there would be nothing to write.
    let mut predecessor = std::mem::replace(&mut stage.kernel, successor);
    stage.store.apply(vec![Delta::PolicyGone("shop/none".parse()?)]);
    ensure!(stage.reconcile()? == 0, "the predecessor is still there");
    predecessor.retire();
    ensure!(stage.reconcile()? > 0);
    stage.web.connect(to)?;
    accept(&app).map(drop)
}

#[test]
fn what_an_agent_keeps_is_found_by_the_next() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let mut stage = Stage::new()?;
    assert_eq!(stage.kernel.vault()?.get(), None);
    for length in [0, 1, 4079, 4080, 4081, 100_000, 10] {
        let bytes: Vec<u8> = (0..length).map(|n| n as u8).collect();
        stage.kernel.vault()?.put(&bytes)?;
        stage.reload()?;
        assert!(stage.kernel.vault()?.get().as_ref() == Some(&bytes), "{length} bytes");
    }
    Ok(())
}

#[test]
fn an_agent_that_dies_while_it_keeps_something_leaves_what_was_kept() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let stage = Stage::new()?;
    let mut vault = stage.kernel.vault()?;
    let pin = stage.config.pin_dir.join(format!("maps-v{VERSION}/VAULT"));
    for (round, bytes) in [[1; 10_000], [2; 10_000]].iter().enumerate() {
        vault.put(bytes)?;
        // What a write looks like that ends after its first chunk, in the half that is not in use.
        let other = if round == 0 { VAULT_CHUNKS / 2 } else { 0 };
        let mut map: HashMap<_, u32, [u8; VAULT_CHUNK]> =
            Map::HashMap(MapData::from_pin(&pin)?).try_into()?;
        let mut torn = map.get(&(VAULT_CHUNKS / 2 - other), 0)?;
        torn[8..16].copy_from_slice(&u64::MAX.to_ne_bytes());
        map.insert(other, torn, 0)?;
        assert!(vault.get().as_deref() == Some(bytes), "round {round}");
    }
    Ok(())
}
