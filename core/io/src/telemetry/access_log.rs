//! The access log: one line a connection, written by a thread of its own.
//!
//! A connection that ends hands its line to a bounded queue and goes on; when the disk or the pipe is slower than the
//! traffic, lines are dropped and counted, and no connection waits.

mod line;

use super::{Brief, Facts, Live};
use serde::{
    Deserialize, Serialize,
    de::{IntoDeserializer, value},
};
use std::{
    io::{self, Write},
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
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
    queue: Option<mpsc::SyncSender<Lines>>,
    /// Lines in the queue.
    waiting: Arc<AtomicUsize>,
    writer: Option<thread::JoinHandle<()>>,
    dropped: Arc<AtomicU64>,
}

/// Some lines, each with its end of line.
#[derive(Debug, Default)]
struct Lines {
    text: String,
    count: usize,
}

/// Lines of the log that are written together: many of them cost the queue no more than one. Dropping it writes what it has.
#[derive(Debug)]
pub(super) struct Batch<'a> {
    log: &'a AccessLog,
    lines: Lines,
}

/// As many lines of a batch go to the queue at once.
const TOGETHER: usize = 64;

impl AccessLog {
    /// No access log.
    pub fn off() -> Self {
        let config = AccessLogConfig { select: Select::Off, ..AccessLogConfig::default() };
        Self { config, queue: None, waiting: Arc::default(), writer: None, dropped: Arc::default() }
    }

    /// A log that a thread of its own writes to `out`. Fails when the thread cannot be started.
    pub fn new(config: AccessLogConfig, out: impl Write + Send + 'static) -> io::Result<Self> {
        if config.select == Select::Off {
            return Ok(Self::off());
        }
        let (sender, lines) = mpsc::sync_channel(config.queue.max(1));
        let waiting = Arc::new(AtomicUsize::new(0));
        let taken = waiting.clone();
        let dropped = Arc::<AtomicU64>::default();
        let lost = dropped.clone();
        let writer = thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || write_lines(&lines, &taken, &lost, out))?;
        Ok(Self { config, queue: Some(sender), waiting, writer: Some(writer), dropped })
    }

    /// Lines lost because the writer was behind, or gone.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    pub(super) fn write(&self, connection: &Live, reason: Reason) {
        if self.queue.is_none() || !self.config.select.takes(reason) {
            return;
        }
        let line = line::Line::of(connection, reason);
        let mut text = match self.config.format {
            Format::Text => line.to_string(),
            Format::Json => line.to_json(),
        };
        text.push('\n');
        self.send(Lines { text, count: 1 });
    }

    /// Lines that are to be written together.
    pub(super) fn batch(&self) -> Batch<'_> {
        Batch { log: self, lines: Lines::default() }
    }

    /// What the lines of connections with these facts have in common, for [`Batch::push`].
    pub(super) fn common(facts: &Facts) -> String {
        line::common_text(facts)
    }

    fn send(&self, lines: Lines) {
        let (Some(queue), count) = (&self.queue, lines.count) else { return };
        let waiting = self.waiting.fetch_add(count, Ordering::Relaxed);
        if waiting + count > self.config.queue.max(1) || queue.try_send(lines).is_err() {
            self.waiting.fetch_sub(count, Ordering::Relaxed);
            self.dropped.fetch_add(count as u64, Ordering::Relaxed);
        }
    }
}

impl Batch<'_> {
    /// Adds the line of a connection with these facts, of which `common` was made.
    pub(super) fn push(&mut self, facts: &Facts, common: &str, brief: &Brief) {
        let config = &self.log.config;
        if self.log.queue.is_none() || !config.select.takes(brief.reason) {
            return;
        }
        match config.format {
            Format::Text => line::write_brief(&mut self.lines.text, common, facts.direction, brief),
            Format::Json => self.lines.text.push_str(&line::Line::of_brief(facts, brief).to_json()),
        }
        self.lines.text.push('\n');
        self.lines.count += 1;
        if self.lines.count >= TOGETHER.min(config.queue / 8) {
            self.log.send(std::mem::take(&mut self.lines));
        }
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        if self.lines.count > 0 {
            self.log.send(std::mem::take(&mut self.lines));
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

/// A disk that is full is not complained of more often than this.
const PAUSE: Duration = Duration::from_secs(30);

fn write_lines(lines: &mpsc::Receiver<Lines>, waiting: &AtomicUsize, lost: &AtomicU64, mut out: impl Write) {
    let mut batch = String::new();
    let mut complained: Option<Instant> = None;
    let take = |batch: &mut String, lines: Lines| {
        waiting.fetch_sub(lines.count, Ordering::Relaxed);
        batch.push_str(&lines.text);
    };
    while let Ok(first) = lines.recv() {
        batch.clear();
        take(&mut batch, first);
        while batch.len() < BATCH
            && let Ok(more) = lines.try_recv()
        {
            take(&mut batch, more);
        }
        if let Err(e) = out.write_all(batch.as_bytes()).and_then(|()| out.flush()) {
            lost.fetch_add(batch.lines().count() as u64, Ordering::Relaxed);
            if complained.is_none_or(|at| at.elapsed() >= PAUSE) {
                complained = Some(Instant::now());
                tracing::warn!(error = %e, "the access log cannot be written, lines are lost and counted; make room for it");
            }
        }
        if batch.len() < BATCH {
            thread::sleep(REST);
        }
    }
}
