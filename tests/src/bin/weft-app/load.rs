//! HTTP/1.1 requests over connections that are kept, one at a time on each.

use crate::histogram::Histogram;
use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::{Value, json};
use std::{
    cell::RefCell,
    net::SocketAddr,
    rc::Rc,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::{JoinSet, LocalSet},
};

#[derive(Args)]
pub struct Options {
    to: SocketAddr,
    /// The path
    #[arg(default_value = "/ping")]
    path: String,
    /// Connections at the same time
    #[arg(long, default_value_t = 1)]
    connections: usize,
    /// How long to measure
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// How long to warm up first
    #[arg(long, default_value_t = 0.5)]
    warm_up: f64,
}

pub fn run(options: &Options) -> Result<Value> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, load(options))
}

async fn load(options: &Options) -> Result<Value> {
    let request: Rc<[u8]> =
        format!("GET {} HTTP/1.1\r\nhost: {}\r\n\r\n", options.path, options.to).into_bytes().into();
    let mut connections = Vec::new();
    for _ in 0..options.connections {
        let stream = TcpStream::connect(options.to).await.context("connect")?;
        stream.set_nodelay(true)?;
        connections.push(stream);
    }
    let begin = Instant::now() + Duration::from_secs_f64(options.warm_up);
    let end = begin + Duration::from_secs_f64(options.seconds);
    let latencies = Rc::new(RefCell::new(Histogram::default()));
    let mut tasks = JoinSet::new();
    for stream in connections {
        tasks.spawn_local(requests(stream, request.clone(), begin, end, latencies.clone()));
    }
    while let Some(task) = tasks.join_next().await {
        task??;
    }
    let latencies = latencies.borrow();
    let microseconds = |quantile: f64| latencies.quantile(quantile) as f64 / 1e3;
    Ok(json!({
        "ok": true,
        "connections": options.connections,
        "requests": latencies.count(),
        "requests_per_second": latencies.count() as f64 / options.seconds,
        "latency_us": {
            "p50": microseconds(0.5),
            "p90": microseconds(0.9),
            "p99": microseconds(0.99),
            "p999": microseconds(0.999),
            "max": microseconds(1.0),
        },
    }))
}

/// Requests, one after the other; what ends between `begin` and `end` counts.
async fn requests(
    mut stream: TcpStream,
    request: Rc<[u8]>,
    begin: Instant,
    end: Instant,
    latencies: Rc<RefCell<Histogram>>,
) -> Result<()> {
    let mut buffer = vec![0; 64 << 10];
    // All answers to one request are alike in length: only the first is looked through for it, so that the load
    // generator costs little beside what it measures.
    stream.write_all(&request).await?;
    let length = first_answer(&mut stream, &mut buffer).await.context("first answer")?;
    loop {
        let asked = Instant::now();
        stream.write_all(&request).await.context("request")?;
        stream.read_exact(&mut buffer[..length]).await.context("answer")?;
        ensure!(buffer.starts_with(b"HTTP/1.1 200"), "an answer is not 200");
        let now = Instant::now();
        if now >= end {
            return Ok(());
        }
        if now >= begin {
            latencies.borrow_mut().record(now - asked);
        }
    }
}

/// Reads one answer and gives its length, headers included.
async fn first_answer(stream: &mut TcpStream, buffer: &mut [u8]) -> Result<usize> {
    let mut filled = 0;
    loop {
        let got = stream.read(&mut buffer[filled..]).await?;
        ensure!(got > 0, "the server ended the connection");
        filled += got;
        let text = std::str::from_utf8(&buffer[..filled])?;
        if let Some(end) = text.find("\r\n\r\n") {
            let head = text[..end].to_ascii_lowercase();
            let (_, rest) = head.split_once("content-length:").context("no content-length")?;
            let length: usize = rest.lines().next().unwrap_or_default().trim().parse()?;
            let whole = end + 4 + length;
            ensure!(whole <= buffer.len(), "the answer is larger than {}", buffer.len());
            stream.read_exact(&mut buffer[filled..whole.max(filled)]).await?;
            return Ok(whole);
        }
    }
}
