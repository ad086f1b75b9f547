//! What it costs pods that are known that others are guarded until they are: the same mesh without the guard and with it.

use super::{
    experiments::{EXPERIMENTS, Experiment, Figure, Load},
    lab::{Labs, Path, Server},
    session::{Session, Side},
    traffic,
};
use anyhow::{Context, Result};
use serde_json::Value;

/// What is measured on a node, and the figures of the default guard and of that of everything.
const MEASURED: [(Load, &str, &str); 3] = [
    (Load::Connections, "guard.connections", "guard.all_connections"),
    (Load::Requests(64), "guard.rps_64", "guard.all_rps_64"),
    (Load::Throughput(1), "guard.throughput_1", "guard.all_throughput_1"),
];

/// Measures those that were asked for.
pub fn run(session: &mut Session) -> Result<()> {
    let mut labs = Labs::default();
    for (load, mesh, all) in MEASURED {
        for (name, path) in [(mesh, Path::Guarded), (all, Path::AllGuarded)] {
            session.attempt(&[name], |session| compare(session, &mut labs, load, name, path))?;
        }
    }
    Ok(())
}

fn compare(
    session: &mut Session,
    labs: &mut Labs,
    load: Load,
    name: &'static str,
    guarded: Path,
) -> Result<()> {
    let same = |e: &&Experiment| e.server == Server::Near && e.load == load;
    let experiment = EXPERIMENTS.iter().find(same).context("no such load on a node")?;
    let Figure(reading, ..) = experiment.figures.first().context("nothing is read from it")?;
    let mut sides = [(Path::Unguarded, Side::Bare), (guarded, Side::Mesh)];
    for run in 1..=session.extent.runs {
        // The other way round each time, as everywhere.
        sides.reverse();
        for (path, side) in sides {
            let what = experiment.describe();
            session.progress(&format!(
                "{what}, {}, run {run} of {}",
                path.describe(),
                session.extent.runs
            ))?;
            let lab = if load == Load::Connections { labs.fresh(path)? } else { labs.get(path)? };
            let told = traffic::load(experiment, session, lab)?;
            session.record(name, side, reading.read(&told, 0.0)?);
            if let Some(seconds) = told["each_second"].as_array() {
                session.record_each_second(name, side, seconds.iter().filter_map(Value::as_f64).collect());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::catalogue;

    #[test]
    fn its_figures_are_in_the_catalogue_and_its_loads_are_measured_on_a_node() {
        for (load, mesh, all) in MEASURED {
            assert!(catalogue::find(mesh).is_some() && catalogue::find(all).is_some(), "{mesh}, {all}");
            assert!(EXPERIMENTS.iter().any(|e| e.server == Server::Near && e.load == load));
        }
    }
}
