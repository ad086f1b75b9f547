//! Ctrl-C: everything is removed before we go.

use anyhow::Result;
use std::{process, thread, time::Duration};
use tokio::signal::unix::{SignalKind, signal};
use weft_tests::{Run, cgroup, sweep};

/// How long the demo has to notice that its processes are gone and to clean up by itself.
const GRACE: Duration = Duration::from_secs(10);

/// From now on SIGINT, SIGTERM and SIGHUP end the demo with its traces removed.
pub fn watch(run: &Run) -> Result<()> {
    let (name, cgroup) = (run.name().to_owned(), run.cgroup()?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut interrupt, mut terminate, mut hang_up) = {
        let _inside = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?, signal(SignalKind::hangup())?)
    };
    thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                _ = hang_up.recv() => {}
            }
        });
        eprintln!("\ninterrupted: cleaning up");
        // With its processes killed, whatever the demo was waiting for fails, and it removes the rest on its way out.
        if let Err(error) = cgroup::kill(&cgroup) {
            eprintln!("{error:#}");
        }
        thread::sleep(GRACE);
        if let Err(error) = sweep::remove(&name) {
            eprintln!("{error:#}");
        }
        process::exit(130);
    });
    Ok(())
}
