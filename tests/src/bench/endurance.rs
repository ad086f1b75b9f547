//! New connections for a minute: whether any fails, and whether their rate falls off a cliff.

use super::{
    experiments::Experiment,
    lab::{Lab, Path},
    session::{Session, Side},
    traffic,
};
use anyhow::{Context, Result};
use serde_json::Value;

/// The rate is looked at in windows of so many seconds.
const WINDOW: usize = 10;
/// The share of its first window that the slowest one keeps unless there is a cliff.
const KEPT: f64 = 0.7;

/// One long run, told of beside the figures of the experiment.
pub fn run(experiment: &Experiment, session: &mut Session, lab: &Lab) -> Result<()> {
    let (what, path) = (experiment.describe(), lab.path.describe());
    let duration = session.extent.endurance;
    session.progress(&format!("{what} for {} s, {path}", duration.as_secs()))?;
    let told = traffic::connections(experiment, lab, duration).with_context(|| format!("{what}, {path}"))?;
    let each = told["each_second"].as_array().context("the client counts no seconds")?;
    let seconds: Vec<_> = each.iter().filter_map(Value::as_f64).collect();
    let windows = windows(&seconds);
    let failures = failures(&told);
    let cliff = cliff(&windows);
    for figure in experiment.figures {
        let outcome = failures.as_deref().unwrap_or("none failed");
        session.note(figure.1, format!("{path}, {} s: {outcome}; {}", seconds.len(), describe(&windows)));
        let side = if lab.path == Path::Mesh { Side::Mesh } else { Side::Bare };
        session.record_each_second(figure.1, side, seconds.clone());
        if lab.path == Path::Mesh
            && let Some(flaw) = failures.clone().or(cliff.clone())
        {
            session.spoil(figure.1, format!("{path}: {flaw}"));
        }
    }
    Ok(())
}

/// The connections that failed, by error, if any did.
pub fn failures(told: &Value) -> Option<String> {
    let failures = told["failures"].as_object().filter(|failures| !failures.is_empty())?;
    let failures: Vec<_> =
        failures.iter().map(|(error, count)| format!("{count} failed with {error}")).collect();
    Some(failures.join(", "))
}

/// The mean of each whole window.
fn windows(seconds: &[f64]) -> Vec<f64> {
    seconds.chunks_exact(WINDOW).map(|window| window.iter().sum::<f64>() / WINDOW as f64).collect()
}

/// What the rate fell to, if it fell off a cliff.
fn cliff(windows: &[f64]) -> Option<String> {
    let first = *windows.first()?;
    let slowest = windows.iter().copied().fold(first, f64::min);
    (slowest < first * KEPT).then(|| format!("fell from {first:.0} to {slowest:.0} connections/s"))
}

fn describe(windows: &[f64]) -> String {
    let Some(first) = windows.first() else { return "no window is whole".into() };
    let slowest = windows.iter().copied().fold(*first, f64::min);
    let all: Vec<_> = windows.iter().map(|rate| format!("{rate:.0}")).collect();
    format!(
        "by windows of {WINDOW} s {} connections/s, the slowest {:.2} of the first",
        all.join(" "),
        slowest / first
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_cliff_anywhere_is_found_and_a_slow_second_is_none() {
        let mut seconds = vec![100.0; 60];
        seconds[25] = 0.0;
        assert_eq!(cliff(&windows(&seconds)), None);
        seconds[20..30].fill(60.0);
        assert_eq!(cliff(&windows(&seconds)).unwrap(), "fell from 100 to 60 connections/s");
        assert_eq!(
            describe(&windows(&seconds)),
            "by windows of 10 s 100 100 60 100 100 100 connections/s, the slowest 0.60 of the first"
        );
    }

    #[test]
    fn failures_are_told_by_error() {
        let told = json!({ "failures": { "ECONNREFUSED": 3 } });
        assert_eq!(failures(&told).unwrap(), "3 failed with ECONNREFUSED");
        assert_eq!(failures(&json!({ "failures": {} })), None);
    }
}
