//! New connections a second: connect, exchange a few bytes, close.

use crate::{histogram::Histogram, outcome};
use anyhow::{Result, ensure};
use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use std::{
    cell::RefCell,
    collections::BTreeMap,
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
    /// Connections in flight at the same time
    #[arg(long, default_value_t = 16)]
    in_flight: usize,
    /// How long to go on
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// How the client ends a connection
    #[arg(long, value_enum, default_value = "fin")]
    end: End,
    /// No more than this many a second in all; as fast as it goes when absent
    #[arg(long)]
    rate: Option<f64>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum End {
    /// An orderly end, which leaves a socket in TIME_WAIT on the client's side
    Fin,
    /// A reset, which leaves nothing
    Reset,
}

/// What was counted, second by second.
#[derive(Default)]
struct Counts {
    latencies: Histogram,
    each_second: Vec<u64>,
    failures: BTreeMap<String, u64>,
    /// When the first and the last of those that failed were begun.
    failed: Option<(Duration, Duration)>,
    /// How many were begun after that and went well.
    since: u64,
}

impl Counts {
    /// Puts a connection that was begun at `started` on the time line.
    fn place(&mut self, started: Duration, failed: bool) {
        match &mut self.failed {
            Some((_, last)) if !failed && started > *last => self.since += 1,
            _ if !failed => {}
            Some((first, last)) => {
                (*first, *last) = ((*first).min(started), (*last).max(started));
                self.since = 0;
            }
            None => self.failed = Some((started, started)),
        }
    }
}

pub fn run(options: &Options) -> Result<Value> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, connections(options))
}

async fn connections(options: &Options) -> Result<Value> {
    let begin = Instant::now();
    let counts = Rc::new(RefCell::new(Counts::default()));
    let mut tasks = JoinSet::new();
    for _ in 0..options.in_flight {
        let pause = options.rate.map(|rate| Duration::from_secs_f64(options.in_flight as f64 / rate));
        let end = begin + Duration::from_secs_f64(options.seconds);
        tasks.spawn_local(one_after_the_other(options.to, options.end, begin, end, pause, counts.clone()));
    }
    while let Some(task) = tasks.join_next().await {
        task?;
    }
    let mut counts = counts.borrow_mut();
    let made = counts.latencies.count();
    // What ended after the last whole second belongs to none; a second in which nothing ended counts as well.
    counts.each_second.resize(options.seconds as usize, 0);
    let whole = &counts.each_second;
    Ok(json!({
        "ok": counts.failures.is_empty(),
        "connections": made,
        "connections_per_second": made as f64 / begin.elapsed().as_secs_f64(),
        "slowest_second": whole.iter().min(),
        "each_second": whole,
        "failures": counts.failures,
        "failed_ms": counts.failed.map(|(first, last)| {
            json!({ "first": first.as_secs_f64() * 1e3, "last": last.as_secs_f64() * 1e3 })
        }),
        "since_last_failure": if counts.failed.is_some() { counts.since } else { made },
        "latency_us": {
            "p50": counts.latencies.quantile(0.5) as f64 / 1e3,
            "p99": counts.latencies.quantile(0.99) as f64 / 1e3,
            "max": counts.latencies.quantile(1.0) as f64 / 1e3,
        },
    }))
}

async fn one_after_the_other(
    to: SocketAddr,
    how: End,
    begin: Instant,
    end: Instant,
    pause: Option<Duration>,
    counts: Rc<RefCell<Counts>>,
) {
    while Instant::now() < end {
        let started = Instant::now();
        let result = exchange(to, how).await;
        let elapsed = started.elapsed();
        {
            let mut counts = counts.borrow_mut();
            let second = begin.elapsed().as_secs() as usize;
            if counts.each_second.len() <= second {
                counts.each_second.resize(second + 1, 0);
            }
            counts.place(started - begin, result.is_err());
            match &result {
                Ok(()) => {
                    counts.latencies.record(elapsed);
                    counts.each_second[second] += 1;
                }
                Err(error) => {
                    let name = outcome::failed(error)["error"].as_str().unwrap_or_default().to_owned();
                    *counts.failures.entry(name).or_default() += 1;
                }
            }
        }
        match pause {
            Some(pause) => tokio::time::sleep(pause.saturating_sub(elapsed)).await,
            // A refusal comes at once: without a rest a dead server would be asked a million times.
            None if result.is_err() => tokio::time::sleep(Duration::from_millis(10)).await,
            None => {}
        }
    }
}

async fn exchange(to: SocketAddr, how: End) -> Result<()> {
    const WORD: &[u8; 16] = b"sixteen letters.";
    const PATIENCE: Duration = Duration::from_secs(5);
    let whole = async {
        let mut stream = TcpStream::connect(to).await?;
        stream.write_all(WORD).await?;
        let mut answer = [0; WORD.len()];
        stream.read_exact(&mut answer).await?;
        ensure!(&answer == WORD, "the echo is another's");
        if let End::Reset = how {
            socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
        }
        Ok(())
    };
    tokio::time::timeout(PATIENCE, whole).await.map_err(std::io::Error::from)?
}
