//! A client that tries the same connection again and again, and says when the outcome changes.

use anyhow::Result;
use serde_json::json;
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// The rest between two attempts: what the answer may be late by.
const REST: Duration = Duration::from_micros(500);
/// An attempt that hangs for so long has failed.
const PATIENCE: Duration = Duration::from_millis(500);

/// What to try.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Options {
    /// An echo server.
    pub to: SocketAddr,
}

/// Tries until the process is ended; prints `{"open": …, "at": …}` for the first attempt and whenever the outcome is
/// another, with the time at which that attempt began in microseconds since 1970.
pub fn run(options: Options) -> Result<()> {
    let mut last = None;
    loop {
        let began = SystemTime::now().duration_since(UNIX_EPOCH)?;
        let open = exchange(options.to).is_ok();
        if last != Some(open) {
            println!("{}", json!({ "open": open, "at": u64::try_from(began.as_micros())? }));
            last = Some(open);
        }
        thread::sleep(REST);
    }
}

fn exchange(to: SocketAddr) -> std::io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"x")?;
    stream.read_exact(&mut [0])
}
