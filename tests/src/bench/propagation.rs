//! How long a manifest takes to become a verdict in the kernel.

use super::{
    crowd,
    lab::{Lab, Path, Server, Work},
    session::{Session, Side},
};
use crate::{Process, binaries};
use anyhow::{Context, Result};
use serde::Deserialize;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const NAME: &str = "propagation.manifest_to_kernel";
/// How many workloads the mesh knows besides.
const CROWD: usize = 10_000;
/// How long a change may take before the measurement gives up.
const LIMIT: Duration = Duration::from_secs(20);
const FILE: &str = "deny.yaml";
const DENY: &str = include_str!("manifests/deny.yaml");

/// What the probe prints.
#[derive(Deserialize)]
struct Turn {
    open: bool,
    /// Microseconds since 1970.
    at: u64,
}

/// Denies a connection on a node and allows it again, and looks at when the kernel does so.
pub fn run(session: &mut Session) -> Result<()> {
    session.attempt(&[NAME], measure).map(drop)
}

fn measure(session: &mut Session) -> Result<()> {
    session.progress(&format!("laying out {CROWD} workloads"))?;
    let lab = Lab::build(Path::Mesh)?;
    lab.apply("crowd.yaml", &crowd::manifests(CROWD))?;
    lab.wait_for_workloads(CROWD)?;
    let to = lab.address(Server::Near, Work::Echo)?.to_string();
    let mut probe = lab.client()?.spawn("probe", binaries::find("weft-bench")?, &["probe", &to])?;
    let mut turns = 0;
    turn(&mut probe, &mut turns, true)?;
    for run in 1..=session.extent.runs {
        session.progress(&format!("manifest to kernel, run {run} of {}", session.extent.runs))?;
        let written = microseconds()?;
        lab.apply(FILE, DENY)?;
        let denied = turn(&mut probe, &mut turns, false)?;
        session.record(NAME, Side::Mesh, denied.saturating_sub(written) as f64 / 1e3);
        let deleted = microseconds()?;
        lab.delete(FILE)?;
        let allowed = turn(&mut probe, &mut turns, true)?;
        session.record_beside(NAME, "the way back", allowed.saturating_sub(deleted) as f64 / 1e3);
    }
    session.note(NAME, format!("a DENY policy for one workload, with {CROWD} more in the mesh"));
    Ok(())
}

fn microseconds() -> Result<u64> {
    Ok(u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros())?)
}

/// Waits for the probe's next line, which must say `open`; gives its time.
fn turn(probe: &mut Process, turns: &mut usize, open: bool) -> Result<u64> {
    let sought = *turns;
    *turns += 1;
    crate::eventually(LIMIT, || {
        let log = probe.log()?;
        let whole = log.rfind('\n').map_or("", |end| &log[..end]);
        let line = whole.lines().nth(sought).context("the kernel still decides as before")?;
        let turn: Turn = serde_json::from_str(line).with_context(|| format!("the probe said `{line}`"))?;
        anyhow::ensure!(
            turn.open == open,
            "the connection is {}",
            if turn.open { "open" } else { "refused" }
        );
        Ok(turn.at)
    })
}
