//! The mesh in a real cluster, as users have it: installed by its chart, with namespaces that opt in.
//!
//! `cargo xtask e2e` brings the cluster up and runs this. The scenarios share the cluster and run one after the other in
//! the order of the list; each cleans up after itself, and says what it measured.
#![forbid(unsafe_code)]

mod agent_upgrade;
mod api_down;
mod bad_image;
mod calls;
mod control_down;
mod deny;
mod images;
mod install;
mod kinds;
mod late_agent;
mod networks;
mod opt_in;
mod probes;
mod reboot;
mod rollout;
mod second_mesh;
mod see;
mod services;
mod shop;
mod skew;
mod stage;
mod strict;
mod uninstall;

use anyhow::{Result, bail};
use stage::Stage;
use std::{process::ExitCode, time::Instant};

/// A scenario: what it measured, in a line.
type Scenario = fn(&Stage) -> Result<String>;

/// In this order; `install` is taken whatever is asked for, the others need it.
const SCENARIOS: [(&str, Scenario); 18] = [
    ("install", install::run),
    ("opt-in", opt_in::run),
    ("see", see::run),
    ("deny", deny::run),
    ("strict", strict::run),
    ("probes", probes::run),
    ("services", services::run),
    ("kinds", kinds::run),
    ("second-mesh", second_mesh::run),
    ("rollout", rollout::run),
    ("agent-upgrade", agent_upgrade::run),
    ("skew", skew::run),
    ("bad-image", bad_image::run),
    ("late-agent", late_agent::run),
    ("control-down", control_down::run),
    ("api-down", api_down::run),
    ("reboot", reboot::run),
    ("uninstall", uninstall::run),
];

fn main() -> ExitCode {
    match run(&std::env::args().skip(1).collect::<Vec<_>>()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(wanted: &[String]) -> Result<ExitCode> {
    if let Some(unknown) = wanted.iter().find(|name| SCENARIOS.iter().all(|(known, _)| known != name)) {
        let names: Vec<_> = SCENARIOS.iter().map(|(name, _)| *name).collect();
        bail!("no scenario {unknown}; there are {}", names.join(", "));
    }
    let stage = Stage::open()?;
    let mut failed = 0;
    for (name, scenario) in SCENARIOS {
        // Without a release to compare with there is nothing to take it with.
        let all = wanted.is_empty() && (name != "skew" || skew::revision().is_some());
        let asked = all || name == "install" || wanted.iter().any(|wanted| wanted == name);
        if !asked {
            continue;
        }
        println!("=== {name}");
        let begun = Instant::now();
        let result = scenario(&stage);
        let took = begun.elapsed().as_secs_f64();
        match result {
            Ok(measured) => println!("=== {name}: ok after {took:.1} s: {measured}"),
            Err(error) => {
                failed += 1;
                println!("=== {name} FAILED after {took:.1} s: {error:#}");
                stage.tell();
                if name == "install" {
                    break;
                }
            }
        }
        if let Err(error) = stage.clean() {
            failed += 1;
            println!("=== {name} FAILED to clean up: {error:#}");
        }
    }
    println!("{}", if failed == 0 { "all scenarios hold" } else { "not all scenarios hold" });
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
