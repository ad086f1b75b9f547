//! Bytes a second: streams that send as fast as they can to a sink that says how much arrived.

use crate::checks;
use anyhow::{Context, Result};
use clap::Args;
use serde_json::{Value, json};
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener},
    thread,
    time::{Duration, Instant},
};

const CHUNK: usize = 256 << 10;

#[derive(Args)]
pub struct Options {
    to: SocketAddr,
    /// Streams at the same time
    #[arg(long, default_value_t = 1)]
    streams: usize,
    /// How long to send
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Stop a stream after so many bytes, however long it takes
    #[arg(long)]
    bytes: Option<u64>,
}

pub fn run(options: &Options) -> Result<Value> {
    let begun = Instant::now();
    let limit = options.bytes.unwrap_or(u64::MAX);
    let end = match options.bytes {
        Some(_) => None,
        None => Some(begun + Duration::from_secs_f64(options.seconds)),
    };
    let to = options.to;
    let threads: Vec<_> = (0..options.streams).map(|_| thread::spawn(move || send(to, end, limit))).collect();
    let mut bytes = 0;
    for thread in threads {
        bytes += thread.join().map_err(|_| anyhow::anyhow!("a stream panicked"))??;
    }
    let seconds = begun.elapsed().as_secs_f64();
    Ok(json!({
        "ok": true,
        "streams": options.streams,
        "bytes": bytes,
        "seconds": seconds,
        "gbit_per_second": bytes as f64 * 8.0 / seconds / 1e9,
    }))
}

/// Sends until the end, and gives the number of bytes that the sink says it got.
fn send(to: SocketAddr, end: Option<Instant>, limit: u64) -> Result<u64> {
    let mut stream = checks::connect(to)?;
    let chunk = vec![0x77; CHUNK];
    let mut sent = 0;
    while sent < limit && end.is_none_or(|end| Instant::now() < end) {
        let now = (limit - sent).min(CHUNK as u64) as usize;
        stream.write_all(&chunk[..now]).context("sending")?;
        sent += now as u64;
    }
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut counted = [0; 8];
    stream.read_exact(&mut counted).context("the sink's count")?;
    let counted = u64::from_be_bytes(counted);
    anyhow::ensure!(counted == sent, "{sent} bytes were sent and {counted} arrived");
    Ok(counted)
}

pub fn serve(listener: &TcpListener) -> Result<Value> {
    for stream in listener.incoming() {
        let mut stream = stream?;
        thread::spawn(move || -> Result<()> {
            let mut chunk = vec![0; CHUNK];
            let mut received: u64 = 0;
            loop {
                match stream.read(&mut chunk)? {
                    0 => return Ok(stream.write_all(&received.to_be_bytes())?),
                    length => received += length as u64,
                }
            }
        });
    }
    Ok(Value::Null)
}
