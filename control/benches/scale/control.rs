//! The control plane, with objects that are made up.

use crate::{Control, Order, objects, say};
use anyhow::{Context, Result};
use std::{
    fs,
    io::BufRead,
    os::unix::fs::PermissionsExt,
    path::Path,
    time::{Duration, Instant},
};
use tokio::sync::mpsc;
use weft_control::{
    app,
    args::RunArgs,
    config::Config,
    source::{Batch, Source, SourceError},
};
use weft_index::Change;

/// Changes are told at this pace, as many at once as the rate has it.
const TICK: Duration = Duration::from_millis(20);

/// So many objects are on a page of a list.
const PART: usize = 500;

/// The source that the process was given.
struct MadeUp(mpsc::Receiver<Batch>);

impl Source for MadeUp {
    fn start(self: Box<Self>) -> Result<mpsc::Receiver<Batch>, SourceError> {
        Ok(self.0)
    }
}

/// Serves until its input ends.
pub fn run(dir: &Path, workloads: usize) -> Result<()> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(serve(dir, workloads))
}

async fn serve(dir: &Path, workloads: usize) -> Result<()> {
    for folder in ["manifests", "state/tokens"] {
        fs::create_dir_all(dir.join(folder))?;
    }
    let token = dir.join("state/tokens/node");
    fs::write(&token, "token of every node")?;
    fs::set_permissions(&token, fs::Permissions::from_mode(0o600))?;
    let args = RunArgs {
        manifests: Some(dir.join("manifests")),
        state: Some(dir.join("state")),
        listen: Some("127.0.0.1:0".parse()?),
        monitoring: Some("127.0.0.1:0".parse()?),
        root: Some(dir.join("root.pem")),
        ..RunArgs::default()
    };
    let (batches, source) = mpsc::channel(1);
    let running = app::start_from(Config::load(&args)?, Some(Box::new(MadeUp(source)))).await?;
    // In parts, as a list is read from an API server.
    let mut objects = objects::all(workloads).peekable();
    while objects.peek().is_some() {
        let changes: Vec<Change> = objects.by_ref().take(PART).collect();
        let batch = Batch { changes, more: objects.peek().is_some(), ..Batch::default() };
        batches.send(batch).await.ok().context("control ended")?;
    }
    // The channel has room for one batch: the second is taken when the last part is folded.
    for _ in 0..2 {
        batches.send(Batch::default()).await.ok().context("control ended")?;
    }
    say(&format!("https://{}", running.bound.discovery))?;

    let (orders, mut next) = mpsc::channel(1);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if orders.blocking_send(line).is_err() {
                break;
            }
        }
    });
    let mut changes = 0;
    while let Some(order) = next.recv().await {
        if let Order::Change { rate, seconds } = serde_json::from_str(&order)? {
            let (began, length) = (Instant::now(), Duration::from_secs(seconds));
            let mut due = tokio::time::interval(TICK);
            let mut made = 0;
            while began.elapsed() < length {
                due.tick().await;
                let wanted = (began.elapsed().as_secs_f64() * rate as f64) as usize;
                let fresh: Vec<Change> =
                    (made..wanted).map(|n| objects::change(changes + n, workloads)).collect();
                made = wanted.max(made);
                let batch = Batch { changes: fresh, ..Batch::default() };
                batches.send(batch).await.ok().context("control ended")?;
            }
            changes += made;
        }
        say(&Control { cpu: cpu()?, memory: memory()?, changes })?;
    }
    running.stop().await;
    Ok(())
}

/// CPU seconds of this process so far.
fn cpu() -> Result<f64> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<_> = stat.rsplit_once(')').context("no fields")?.1.split_whitespace().collect();
    let ticks = fields.get(11).context("no utime")?.parse::<f64>()?
        + fields.get(12).context("no stime")?.parse::<f64>()?;
    // USER_HZ is 100 everywhere.
    Ok(ticks / 100.0)
}

/// Resident memory of this process in MB.
fn memory() -> Result<f64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).context("no VmRSS")?;
    Ok(line.split_whitespace().nth(1).context("no figure")?.parse::<f64>()? / 1e3)
}
