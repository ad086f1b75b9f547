//! Many connections at once, each used for a small echo now and then.

use anyhow::{Context, Result};
use clap::Args;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};

#[derive(Args)]
pub struct Options {
    to: SocketAddr,
    /// How many
    #[arg(long, default_value_t = 100)]
    connections: usize,
    /// For how long, from when all of them stand
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// Milliseconds between two uses of a connection
    #[arg(long, default_value_t = 500)]
    every_ms: u64,
    /// How many may be in the making at the same time
    #[arg(long, default_value_t = 64)]
    at_once: usize,
}

pub fn run(options: Options) -> Result<Value> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(hold(options))
}

async fn hold(options: Options) -> Result<Value> {
    let begun = Instant::now();
    let mut held = Vec::with_capacity(options.connections);
    let mut failures = BTreeMap::<String, usize>::new();
    let mut making = JoinSet::new();
    for number in 0..options.connections {
        if making.len() >= options.at_once {
            sort_in(making.join_next().await, &mut held, &mut failures)?;
        }
        making.spawn(connect(options.to, number));
    }
    while !making.is_empty() {
        sort_in(making.join_next().await, &mut held, &mut failures)?;
    }
    let (standing, made_in) = (held.len(), begun.elapsed());
    println!("{}", json!({ "held": standing, "seconds": made_in.as_secs_f64() }));

    let end = Instant::now() + Duration::from_secs_f64(options.seconds);
    let every = Duration::from_millis(options.every_ms);
    let mut uses = JoinSet::new();
    for stream in held {
        uses.spawn(keep_using(stream, end, every));
    }
    let mut echoes = 0;
    while let Some(done) = uses.join_next().await {
        let (count, result) = done?;
        echoes += count;
        if let Err(error) = result {
            count_failure(&mut failures, &error);
        }
    }
    Ok(json!({
        "ok": failures.is_empty() && standing == options.connections,
        "held": standing,
        "echoes": echoes,
        "failures": failures,
    }))
}

type Made = Option<Result<Result<TcpStream>, tokio::task::JoinError>>;

fn sort_in(made: Made, held: &mut Vec<TcpStream>, failures: &mut BTreeMap<String, usize>) -> Result<()> {
    match made.transpose()? {
        Some(Ok(stream)) => held.push(stream),
        Some(Err(error)) => {
            count_failure(failures, &error);
        }
        None => {}
    }
    Ok(())
}

fn count_failure(failures: &mut BTreeMap<String, usize>, error: &anyhow::Error) {
    let name = crate::outcome::failed(error)["error"].as_str().unwrap_or_default().to_owned();
    *failures.entry(name).or_default() += 1;
}

async fn connect(to: SocketAddr, number: usize) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(to).await.context("connect")?;
    echo(&mut stream, number as u64).await?;
    Ok(stream)
}

async fn keep_using(mut stream: TcpStream, end: Instant, every: Duration) -> (u64, Result<()>) {
    let mut count = 0;
    while Instant::now() < end {
        if let Err(error) = echo(&mut stream, count).await {
            return (count, Err(error));
        }
        count += 1;
        tokio::time::sleep(every).await;
    }
    (count, Ok(()))
}

async fn echo(stream: &mut TcpStream, number: u64) -> Result<()> {
    const PATIENCE: Duration = Duration::from_secs(20);
    let mut answer = [0; 8];
    let exchange = async {
        stream.write_all(&number.to_be_bytes()).await?;
        stream.read_exact(&mut answer).await
    };
    tokio::time::timeout(PATIENCE, exchange).await.map_err(std::io::Error::from)??;
    anyhow::ensure!(answer == number.to_be_bytes(), "the echo is another's");
    Ok(())
}
