//! Ctrl-C and SIGTERM: what was made on this machine is removed before we go.

use crate::{Run, cgroup, sweep};
use anyhow::{Result, bail};
use std::{
    process,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};
use tokio::signal::unix::{SignalKind, signal};

/// How long a run has to notice that its processes are gone and to clean up by itself.
const GRACE: Duration = Duration::from_secs(10);

/// The exit code of a program that was interrupted, as shells have it.
pub const CODE: u8 = 130;

static HAPPENED: AtomicBool = AtomicBool::new(false);

/// Does `clean_up` when SIGINT, SIGTERM or SIGHUP tells this process to end, and then ends it.
pub fn on_signal(clean_up: impl FnOnce() + Send + 'static) -> Result<()> {
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
        HAPPENED.store(true, Ordering::Relaxed);
        eprintln!("\ninterrupted: cleaning up");
        clean_up();
        process::exit(CODE.into());
    });
    Ok(())
}

/// From now on a signal ends every run of this process and removes its traces.
pub fn watch_own_runs() -> Result<()> {
    on_signal(|| {
        if let Err(error) = Run::of_this_process().and_then(|names| end(&names)) {
            eprintln!("{error:#}");
        }
    })
}

/// Ends the runs of these names: with their processes killed, whatever their owner was waiting for fails, and it removes
/// the rest on its way out. What is there after a while is removed from here.
pub fn end(names: &[String]) -> Result<()> {
    for name in names {
        // A run that has just ended by itself has no cgroup any more.
        if let Err(error) = cgroup::kill(&cgroup::root()?.join(name)) {
            eprintln!("{name}: {error:#}");
        }
    }
    thread::sleep(GRACE);
    names.iter().try_for_each(|name| sweep::remove(name))
}

/// Whether a signal has come: what fails from then on is no finding.
pub fn happened() -> bool {
    HAPPENED.load(Ordering::Relaxed)
}

/// An error when a signal has come, for those who would begin something.
pub fn check() -> Result<()> {
    if happened() {
        bail!("interrupted");
    }
    Ok(())
}
