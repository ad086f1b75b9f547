//! Ctrl-C: everything is removed before we go.

use anyhow::Result;
use std::{
    fs,
    io::ErrorKind,
    path::Path,
    process,
    sync::{Arc, Mutex, PoisonError},
};
use weft_tests::{
    Run,
    interrupt::{self, on_signal},
    process::kill_group,
};

/// From now on SIGINT, SIGTERM and SIGHUP end the demo with its traces removed.
pub fn watch(run: &Run) -> Result<()> {
    let name = run.name().to_owned();
    on_signal(move || {
        if let Err(error) = interrupt::end(&[name]) {
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
        process::exit(interrupt::CODE.into());
    })?;
    Ok(groups)
}
