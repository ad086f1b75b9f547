//! Waiting for what takes an unknown time.

use anyhow::{Context, Result};
use std::{
    thread,
    time::{Duration, Instant},
};

/// Tries again until it works; after `limit`, the last error is the answer. Nothing waits longer than it must.
pub fn eventually<T>(limit: Duration, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    let end = Instant::now() + limit;
    loop {
        match attempt() {
            Ok(found) => return Ok(found),
            Err(error) if Instant::now() >= end => {
                return Err(error).with_context(|| format!("still so after {limit:?}"));
            }
            Err(_) => thread::sleep(Duration::from_millis(10)),
        }
    }
}
