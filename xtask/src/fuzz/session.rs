//! One target's run, and what became of it.

use super::{build, home, work};
use anyhow::{Context, Result};
use std::{
    fmt::Write,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

/// More memory than this is a finding.
const MEGABYTES: u32 = 1024;
/// One input that takes longer than this many seconds is a finding.
const SECONDS_AN_INPUT: u32 = 10;
/// How much longer than its time a target may take (it reads its corpus first) before it counts as hung.
const GRACE: Duration = Duration::from_secs(60);
/// How many lines of a failed target's output are shown.
const LINES: usize = 12;

/// A target that is ready to run.
pub struct Session {
    target: String,
    corpus: PathBuf,
    artefacts: PathBuf,
    log: PathBuf,
}

/// What became of a run.
pub struct Report {
    pub target: String,
    /// Inputs tried.
    pub runs: u64,
    /// Inputs a second.
    pub speed: u64,
    /// Edges of the code that the inputs reached.
    pub edges: u64,
    /// Inputs that each reach something that the others do not.
    pub corpus: u64,
    /// What went wrong, in a line.
    pub failure: Option<String>,
    /// The input that shows it.
    artefact: Option<PathBuf>,
    log: PathBuf,
}

impl Session {
    /// Makes the target's directories.
    pub fn new(target: &str) -> Result<Self> {
        let session = Self {
            target: target.to_owned(),
            corpus: work().join("corpus").join(target),
            artefacts: work().join("artefacts").join(target),
            log: work().join("logs").join(format!("{target}.log")),
        };
        let logs = session.log.parent().context("a log has a directory")?;
        for directory in [&session.corpus, &session.artefacts, logs] {
            fs::create_dir_all(directory)?;
        }
        Ok(session)
    }

    /// Runs it for `time`, its output in a log; `seed` begins libFuzzer's random numbers, 0 each time elsewhere.
    pub fn run(self, time: Duration, seed: u32) -> Result<Report> {
        let log = File::create(&self.log)?;
        let mut command = Command::new(build::program(&self.target));
        command
            .arg(format!("-max_total_time={}", time.as_secs()))
            .arg(format!("-seed={seed}"))
            .arg(format!("-rss_limit_mb={MEGABYTES}"))
            .arg(format!("-timeout={SECONDS_AN_INPUT}"))
            .arg(format!("-artifact_prefix={}/", self.artefacts.display()))
            .arg(&self.corpus);
        let seeds = home().join("seeds").join(&self.target);
        if seeds.is_dir() {
            command.arg(seeds);
        }
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let status = wait(&mut command, time + GRACE)?;
        let said = String::from_utf8_lossy(&fs::read(&self.log)?).into_owned();
        Ok(self.report(status, &said))
    }

    fn report(self, status: Option<ExitStatus>, said: &str) -> Report {
        let last = said.lines().rfind(|line| is_status(line)).unwrap_or_default();
        let artefact = said.lines().find_map(|line| line.split("Test unit written to ").nth(1));
        let failure = match status {
            Some(status) if status.success() => None,
            Some(status) => Some(said.lines().find_map(reason).unwrap_or_else(|| status.to_string())),
            None => Some("hung".to_owned()),
        };
        Report {
            runs: last.trim_start_matches('#').split_whitespace().next().map_or(0, number),
            speed: value(last, "exec/s:"),
            edges: value(last, "cov:"),
            corpus: value(last, "corp:"),
            failure,
            artefact: artefact.map(PathBuf::from),
            target: self.target,
            log: self.log,
        }
    }
}

/// Waits for the end of a process; kills it and answers `None` when `limit` is over.
fn wait(command: &mut Command, limit: Duration) -> Result<Option<ExitStatus>> {
    let mut child = command.spawn().with_context(|| format!("cannot run {command:?}"))?;
    let end = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= end {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// Whether a line is one of those in which libFuzzer counts (`#4096\tpulse  cov: …`).
fn is_status(line: &str) -> bool {
    line.strip_prefix('#').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
}

/// The number after `label` in one of libFuzzer's status lines.
fn value(line: &str, label: &str) -> u64 {
    line.split(label).nth(1).and_then(|rest| rest.split_whitespace().next()).map_or(0, number)
}

/// The digits at the start of `text`.
fn number(text: &str) -> u64 {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text[..digits].parse().unwrap_or(0)
}

/// Why a target failed, where a line of its output says so.
fn reason(line: &str) -> Option<String> {
    let place = line.split(" panicked at ").nth(1).map(|place| place.trim_end_matches(':'));
    let own = line.split("ERROR: libFuzzer: ").nth(1);
    place.map(|place| format!("panicked at {place}")).or_else(|| own.map(str::to_owned))
}

impl Report {
    /// A line for those who watch.
    pub fn summary(&self) -> String {
        match &self.failure {
            None => format!("ok, {} runs, {} edges", self.runs, self.edges),
            Some(failure) => format!("FAILED: {failure}"),
        }
    }

    /// What a person needs to go after a failure.
    pub fn explain(&self) -> String {
        let mut text = format!("\n{} FAILED; its log is {}\n", self.target, self.log.display());
        let said = fs::read_to_string(&self.log).unwrap_or_default();
        let from = said.lines().position(|line| reason(line).is_some()).unwrap_or(0);
        for line in said.lines().skip(from).take(LINES) {
            let _ = writeln!(text, "    {line}");
        }
        if let Some(input) = &self.artefact {
            let program = build::program(&self.target);
            let _ = writeln!(text, "To see it again: {} {}", program.display(), show(input));
            let kept = home().join("seeds").join(&self.target);
            let _ = writeln!(text, "Once mended, keep the input: cp {} {}/", show(input), kept.display());
        }
        text
    }
}

fn show(path: &Path) -> std::path::Display<'_> {
    path.display()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_libfuzzers_words() {
        let line = "#7085212\tDONE   cov: 45 ft: 139 corp: 34/1355b lim: 4096 exec/s: 787245 rss: 27Mb";
        let values = ["cov:", "corp:", "exec/s:", "nothing:"].map(|label| value(line, label));
        assert_eq!(values, [45, 34, 787_245, 0]);
        assert!(is_status(line) && !is_status("###### End of recommended dictionary. ######"));
        let panic = "thread '<unnamed>' (7) panicked at targets/keys.rs:10:9:";
        assert_eq!(reason(panic).as_deref(), Some("panicked at targets/keys.rs:10:9"));
        let memory = "==7== ERROR: libFuzzer: out-of-memory (used: 1025Mb; limit: 1024Mb)";
        assert_eq!(reason(memory).as_deref(), Some("out-of-memory (used: 1025Mb; limit: 1024Mb)"));
        assert_eq!(reason(line), None);
    }
}
