//! Throughput, requests, latency and new connections, on every path in turn.

use super::{
    experiments::{EXPERIMENTS, Experiment, Figure, Load},
    lab::{Lab, Labs, Path, Server, Work},
    session::{Session, Side},
};
use crate::app;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::time::Duration;

/// Runs every experiment that a wanted figure is read from.
pub fn run(session: &mut Session) -> Result<()> {
    let mut labs = Labs::default();
    EXPERIMENTS.iter().try_for_each(|experiment| alternate(experiment, session, &mut labs))
}

/// Runs the experiment on each path that is needed, turn by turn.
fn alternate(experiment: &Experiment, session: &mut Session, labs: &mut Labs) -> Result<()> {
    let direct = experiment.figures.iter().any(|figure| session.wants(figure.1));
    let relayed = experiment.figures.iter().any(|figure| figure.2.is_some_and(|name| session.wants(name)));
    if !direct && !relayed {
        return Ok(());
    }
    let mut paths = vec![Path::Mesh];
    paths.extend(relayed.then_some(Path::Relay));
    paths.extend(direct.then_some(Path::Bare));
    let (what, runs) = (experiment.describe(), session.extent.runs);
    for run in 1..=runs {
        // The other way round each time: who runs right after whom helps nobody in particular.
        paths.reverse();
        for path in &paths {
            session.progress(&format!("{what}, run {run} of {runs}, {}", path.describe()));
            let lab = match experiment.load {
                Load::Connections => labs.fresh(*path)?,
                Load::Throughput(_) | Load::Requests(_) => labs.get(*path)?,
            };
            measure(experiment, session, lab).with_context(|| format!("{what}, {}", path.describe()))?;
        }
    }
    let names = experiment.figures.iter().flat_map(|figure| std::iter::once(figure.1).chain(figure.2));
    session.finish(&names.collect::<Vec<_>>());
    Ok(())
}

/// One run on one path.
fn measure(experiment: &Experiment, session: &mut Session, lab: &Lab) -> Result<()> {
    let before = lab.proxies_cpu()?;
    let told = load(experiment, session, lab)?;
    let cpu = lab.proxies_cpu()? - before;
    let new_connections = matches!(experiment.load, Load::Connections);
    ensure!(new_connections || told["ok"] == true, "the client says {told}");
    for Figure(reading, bare, relay) in experiment.figures {
        let value = reading.read(&told, cpu)?;
        match lab.path {
            Path::Bare if reading.is_of_proxies() => {}
            Path::Bare => session.record(bare, Side::Bare, value),
            Path::Relay => relay.iter().for_each(|name| session.record(name, Side::Bare, value)),
            Path::Mesh => {
                session.record(bare, Side::Mesh, value);
                relay.iter().for_each(|name| session.record(name, Side::Mesh, value));
            }
        }
        if let Some(flaw) = new_connections.then(|| flaw(&told)).flatten() {
            match lab.path {
                Path::Mesh => session.spoil(bare, format!("the mesh: {flaw}")),
                Path::Bare => session.note(bare, format!("bare: {flaw}")),
                Path::Relay => relay.iter().for_each(|name| session.note(name, format!("relays: {flaw}"))),
            }
        }
    }
    Ok(())
}

/// Runs the client and gives what it printed.
fn load(experiment: &Experiment, session: &Session, lab: &Lab) -> Result<Value> {
    /// Beyond what the client was asked to take.
    const GRACE: Duration = Duration::from_secs(30);
    let extent = session.extent;
    let (work, command, duration, more) = match experiment.load {
        Load::Throughput(streams) => {
            (Work::Sink, "throughput", extent.run, vec!["--streams".into(), streams.to_string()])
        }
        // Warming up would be processor time without requests that count.
        Load::Requests(connections) => (
            Work::Http,
            "load",
            extent.run,
            vec!["--warm-up=0".into(), "--connections".into(), connections.to_string()],
        ),
        Load::Connections => {
            // Only across nodes is there anything that could run out of ports.
            let duration = match experiment.server {
                Server::Near => extent.connections / 4,
                Server::Far => extent.connections,
            };
            (Work::Echo, "connections", duration, vec!["--in-flight=16".into()])
        }
    };
    let to = lab.address(experiment.server, work)?.to_string();
    let seconds = format!("--seconds={}", duration.as_secs_f64());
    let mut args = vec![command, &to, &seconds];
    args.extend(more.iter().map(String::as_str));
    app::run_within(lab.client()?, duration + GRACE, &args)
}

/// What is wrong with a run of new connections: failures, or a rate that falls away.
fn flaw(told: &Value) -> Option<String> {
    /// The share of its early rate that the late rate keeps unless there is a cliff.
    const KEPT: f64 = 0.7;
    let failures = told["failures"].as_object().filter(|failures| !failures.is_empty());
    if let Some(failures) = failures {
        let failures: Vec<_> =
            failures.iter().map(|(error, count)| format!("{count} failed with {error}")).collect();
        return Some(failures.join(", "));
    }
    let seconds: Vec<_> = told["each_second"].as_array()?.iter().filter_map(Value::as_f64).collect();
    let sixth = (seconds.len() / 6).max(1);
    let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len() as f64;
    let (early, late) = (mean(seconds.get(..sixth)?), mean(&seconds[seconds.len() - sixth..]));
    (late < early * KEPT).then(|| format!("fell from {early:.0} to {late:.0} connections/s within a run"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_cliff_and_failures_are_flaws() {
        let told = |last: u64| json!({ "failures": {}, "each_second": [100, 101, 99, 100, 100, last] });
        assert_eq!(flaw(&told(90)), None);
        assert_eq!(flaw(&told(3)).unwrap(), "fell from 100 to 3 connections/s within a run");
        let failed = json!({ "failures": { "ECONNREFUSED": 3 }, "each_second": [1, 1] });
        assert_eq!(flaw(&failed).unwrap(), "3 failed with ECONNREFUSED");
    }
}
