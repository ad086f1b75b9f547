//! Ctrl-C: everything is removed before we go.

use anyhow::Result;
use std::{
    fs,
    io::ErrorKind,
    path::Path,
    process,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};
use tokio::signal::unix::{SignalKind, signal};
use weft_tests::{Run, cgroup, process::kill_group, sweep};

/// How long the demo has to notice that its processes are gone and to clean up by itself.
const GRACE: Duration = Duration::from_secs(10);

/// The exit code of a program that was interrupted, as shells have it.
const INTERRUPTED: i32 = 130;

/// From now on SIGINT, SIGTERM and SIGHUP end the demo with its traces removed.
pub fn watch(run: &Run) -> Result<()> {
    let (name, cgroup) = (run.name().to_owned(), run.cgroup()?);
    on_signal(move || {
        // With its processes killed, whatever the demo was waiting for fails, and it removes the rest on its way out.
        if let Err(error) = cgroup::kill(&cgroup) {
            eprintln!("{error:#}");
        }
        thread::sleep(GRACE);
        if let Err(error) = sweep::remove(&name) {
            eprintln!("{error:#}");
        }
    })
}

/// Process groups that end when the demo is interrupted.
#[derive(Clone, Default)]
pub struct Groups(Arc<Mutex<Vec<u32>>>);

impl Groups {
    /// One more, by its leader's process id.
    pub fn add(&self, leader: u32) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(leader);
    }
}

/// From now on SIGINT, SIGTERM and SIGHUP end the demo, the process groups that it is told of, and the directory.
pub fn watch_groups(directory: &Path) -> Result<Groups> {
    let (groups, directory) = (Groups::default(), directory.to_owned());
    let told = groups.clone();
    on_signal(move || {
        // The lock is kept: nobody begins who would not end.
        let all = told.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().copied().for_each(kill_group);
        if let Err(error) = fs::remove_dir_all(&directory)
            && error.kind() != ErrorKind::NotFound
        {
            eprintln!("cannot remove {}: {error}", directory.display());
        }
        process::exit(INTERRUPTED);
    })?;
    Ok(groups)
}

/// Does this when a signal tells the demo to end, and then ends the process.
fn on_signal(clean_up: impl FnOnce() + Send + 'static) -> Result<()> {
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
        clean_up();
        process::exit(INTERRUPTED);
    });
    Ok(())
}
