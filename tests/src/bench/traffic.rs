//! Throughput, requests, latency and new connections, on every path in turn.

use super::{
    endurance,
    experiments::{EXPERIMENTS, Experiment, Figure, Load},
    lab::{Lab, Labs, Path, Work},
    session::{Session, Side},
};
use crate::app;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::time::Duration;

/// What a client may take beyond what it was asked to.
const GRACE: Duration = Duration::from_secs(30);

/// Runs every experiment that a wanted figure is read from.
pub fn run(session: &mut Session) -> Result<()> {
    let mut labs = Labs::default();
    for experiment in EXPERIMENTS {
        let names = experiment.figures.iter().flat_map(|figure| std::iter::once(figure.1).chain(figure.2));
        let names: Vec<_> = names.collect();
        if !session.attempt(&names, |session| alternate(experiment, session, &mut labs))? {
            // Something in them may be broken: whoever comes next begins with new ones.
            labs.clear();
        }
    }
    Ok(())
}

/// Runs the experiment on each path that is needed, turn by turn.
fn alternate(experiment: &Experiment, session: &mut Session, labs: &mut Labs) -> Result<()> {
    let direct = experiment.figures.iter().any(|figure| session.wants(figure.1));
    let relayed = experiment.figures.iter().any(|figure| figure.2.is_some_and(|name| session.wants(name)));
    let mut paths = vec![Path::Mesh];
    paths.extend(relayed.then_some(Path::Relay));
    paths.extend(direct.then_some(Path::Bare));
    let (what, runs) = (experiment.describe(), session.extent.runs);
    for run in 1..=runs {
        // The other way round each time: who runs right after whom helps nobody in particular.
        paths.reverse();
        for path in &paths {
            session.progress(&format!("{what}, run {run} of {runs}, {}", path.describe()))?;
            let lab = match experiment.load {
                Load::Connections => labs.fresh(*path)?,
                Load::Throughput(_) | Load::Requests(_) => labs.get(*path)?,
            };
            measure(experiment, session, lab).with_context(|| format!("{what}, {}", path.describe()))?;
        }
    }
    if direct && experiment.is_of_endurance() {
        for path in [Path::Bare, Path::Mesh] {
            endurance::run(experiment, session, labs.fresh(path)?)?;
        }
    }
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
            Path::Mesh | Path::Unguarded | Path::Guarded | Path::AllGuarded => {
                session.record(bare, Side::Mesh, value);
                relay.iter().for_each(|name| session.record(name, Side::Mesh, value));
            }
        }
        if new_connections && let Some(failures) = endurance::failures(&told) {
            match lab.path {
                Path::Mesh | Path::Unguarded | Path::Guarded | Path::AllGuarded => {
                    session.spoil(bare, format!("the mesh: {failures}"))
                }
                Path::Bare => session.note(bare, format!("bare: {failures}")),
                Path::Relay => {
                    relay.iter().for_each(|name| session.note(name, format!("relays: {failures}")))
                }
            }
        }
    }
    Ok(())
}

/// Runs the client and gives what it printed.
pub fn load(experiment: &Experiment, session: &Session, lab: &Lab) -> Result<Value> {
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
        Load::Connections => return connections(experiment, lab, extent.connections),
    };
    let to = lab.address(experiment.server, work)?.to_string();
    let seconds = format!("--seconds={}", duration.as_secs_f64());
    let mut args = vec![command, &to, &seconds];
    args.extend(more.iter().map(String::as_str));
    app::run_within(lab.client()?, duration + GRACE, &args)
}

/// Opens connections for `duration`, sixteen in flight, and gives what the client printed.
pub fn connections(experiment: &Experiment, lab: &Lab, duration: Duration) -> Result<Value> {
    let to = lab.address(experiment.server, Work::Echo)?.to_string();
    let seconds = format!("--seconds={}", duration.as_secs_f64());
    let args = ["connections", &to, &seconds, "--in-flight=16"];
    app::run_within(lab.client()?, duration + GRACE, &args)
}
