//! The access log: one line a connection, written by a thread of its own.
//!
//! A connection that ends hands its line to a bounded queue and goes on; when the disk or the pipe is slower than the
//! traffic, lines are dropped and counted, and no connection waits.

mod line;

use super::Live;
use serde::{
    Deserialize, Serialize,
    de::{IntoDeserializer, value},
};
use std::{
    io::{self, Write},
    str::FromStr,
    sync::{
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};
use weft_model::Reason;

/// Which connections are logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Select {
    /// None.
    Off,
    /// Those that a policy refused or closed.
    Denied,
    /// Those that failed in any way, refusals included.
    Failed,
    /// All.
    #[default]
    All,
}

/// How a line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// `key=value` pairs.
    #[default]
    Text,
    /// A JSON object.
    Json,
}

impl FromStr for Select {
    type Err = value::Error;

    fn from_str(s: &str) -> Result<Self, value::Error> {
        Self::deserialize(s.into_deserializer())
    }
}

impl FromStr for Format {
    type Err = value::Error;

    fn from_str(s: &str) -> Result<Self, value::Error> {
        Self::deserialize(s.into_deserializer())
    }
}

/// How the access log is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccessLogConfig {
    /// Which connections are logged.
    pub select: Select,
    /// How a line looks.
    pub format: Format,
    /// How many lines may wait for the writer.
    pub queue: usize,
}

impl Default for AccessLogConfig {
    fn default() -> Self {
        Self { select: Select::All, format: Format::Text, queue: 8192 }
    }
}

/// The access log of a process. Dropping it writes what is queued, for two seconds at most, and ends its thread.
#[derive(Debug)]
pub struct AccessLog {
    config: AccessLogConfig,
    queue: Option<mpsc::SyncSender<String>>,
    writer: Option<thread::JoinHandle<()>>,
    dropped: AtomicU64,
}

impl AccessLog {
    /// No access log.
    pub fn off() -> Self {
        let config = AccessLogConfig { select: Select::Off, ..AccessLogConfig::default() };
        Self { config, queue: None, writer: None, dropped: AtomicU64::new(0) }
    }

    /// A log that a thread of its own writes to `out`. Fails when the thread cannot be started.
    pub fn new(config: AccessLogConfig, out: impl Write + Send + 'static) -> io::Result<Self> {
        if config.select == Select::Off {
            return Ok(Self::off());
        }
        let (sender, lines) = mpsc::sync_channel(config.queue.max(1));
        let writer =
            thread::Builder::new().name("access-log".to_owned()).spawn(move || write_lines(&lines, out))?;
        Ok(Self { config, queue: Some(sender), writer: Some(writer), dropped: AtomicU64::new(0) })
    }

    /// Lines lost because the writer was behind, or gone.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    pub(super) fn write(&self, connection: &Live, reason: Reason) {
        let Some(queue) = &self.queue else { return };
        if !self.config.select.takes(reason) {
            return;
        }
        let line = line::Line::of(connection, reason);
        let line = match self.config.format {
            Format::Text => line.to_string(),
            Format::Json => line.to_json(),
        };
        if queue.try_send(line).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        self.queue = None;
        let Some(writer) = self.writer.take() else { return };
        // It ends by itself once the queue is empty, unless nobody reads what it writes.
        let until = Instant::now() + LAST_LINES;
        while !writer.is_finished() {
            if Instant::now() >= until {
                tracing::warn!("the last lines of the access log are lost: nobody takes them");
                return;
            }
            thread::sleep(REST);
        }
        // A panic in it has been reported by the panic hook.
        let _ = writer.join();
    }
}

impl Select {
    fn takes(self, reason: Reason) -> bool {
        match self {
            Select::Off => false,
            Select::Denied => reason.response_flags() == "DENY",
            Select::Failed => reason.response_flags() != "-",
            Select::All => true,
        }
    }
}

/// The time for the last lines to be written: a pipe that nobody reads must not hold up the end of the process.
const LAST_LINES: Duration = Duration::from_secs(2);
/// Lines are written together up to about this many bytes.
const BATCH: usize = 64 * 1024;
/// The writer's rest once the queue is empty. A line that finds the writer waiting must wake it, which costs the thread of
/// the connection more than the line itself; after a rest the writer finds many lines, and nobody had to wake it.
const REST: Duration = Duration::from_millis(2);

fn write_lines(lines: &mpsc::Receiver<String>, mut out: impl Write) {
    let mut batch = String::new();
    while let Ok(first) = lines.recv() {
        batch.clear();
        batch.push_str(&first);
        batch.push('\n');
        while batch.len() < BATCH
            && let Ok(line) = lines.try_recv()
        {
            batch.push_str(&line);
            batch.push('\n');
        }
        if let Err(e) = out.write_all(batch.as_bytes()).and_then(|()| out.flush()) {
            tracing::warn!(error = %e, "the access log cannot be written; lines are lost");
        }
        if batch.len() < BATCH {
            thread::sleep(REST);
        }
    }
}
