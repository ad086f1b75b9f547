//! The scenarios in a real cluster (`tests/cluster/tests/e2e`).

use crate::{build, cluster, generate, image, setup, shell, skew};
use anyhow::{Context, Result};
use clap::Args;
use std::{
    hash::{DefaultHasher, Hasher},
    process::ExitCode,
};
use weft_cluster::Cluster;

/// The name of a cluster that was given none.
const NAME: &str = "e2e";

#[derive(Args)]
#[command(after_help = "\
Examples:
  cargo xtask e2e                       everything, on a cluster that is brought up and removed
  cargo xtask e2e --keep deny strict    these alone; cluster and mesh stay, and the next run finds them
  cargo xtask e2e --skew v0.1.0 skew    agents and control of another revision beside the present ones")]
pub struct Options {
    /// Scenarios to take; all when none is named
    scenarios: Vec<String>,
    /// The cluster's name
    #[arg(long, default_value = NAME)]
    name: String,
    /// The revision that the scenario `skew` has beside the present one [default: the newest release of the minor before; without
    /// one, the scenario is not taken]
    #[arg(long, value_name = "REVISION")]
    skew: Option<String>,
    /// Leave the cluster, whatever becomes of the scenarios
    #[arg(long)]
    keep: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { scenarios: Vec::new(), name: NAME.into(), skew: None, keep: false }
    }
}

pub fn run(options: &Options) -> Result<ExitCode> {
    setup::run()?;
    let is_wanted = options.scenarios.is_empty() || options.scenarios.iter().any(|name| name == "skew");
    let revision = match &options.skew {
        Some(revision) => Some(revision.clone()),
        None if is_wanted => skew::release_before()?,
        None => None,
    };
    let other = revision.map(|revision| skew::build(&revision)).transpose()?;
    build::binaries(false)?;
    let name = options.name.clone();
    let up = cluster::up(&weft_cluster::Options { name, ..weft_cluster::Options::default() });
    let result = up.and_then(|cluster| {
        // Here is a helm, which the manifests are compared by.
        generate::run(&generate::Options { check: true })?;
        let mut images = DefaultHasher::new();
        for (archive, _) in image::build(&image::Options::default())? {
            cluster.import(&archive)?;
            images.write(&std::fs::read(&archive).with_context(|| archive.display().to_string())?);
        }
        // The same names may be other programs by now: pods of the old ones are replaced.
        let images = format!("{:016x}", images.finish());
        if let Some(other) = &other {
            skew::import(other, &cluster)?;
        }
        let test = |target, more: &[&str]| {
            // Of the whole workspace, whose features all else was built with: nothing is built twice.
            let args = ["test", "--locked", "--workspace", "--test", target, "--"];
            let mut test = shell::cargo(&[&args, more].concat());
            test.env("WEFT_CLUSTER", &options.name).env("WEFT_IMAGES", &images);
            if let Some(other) = &other {
                test.env("WEFT_SKEW", &other.commit);
            }
            shell::run(&mut test)
        };
        // Control alone with an API server of each test's own; after that, everything in the cluster.
        if options.scenarios.is_empty() {
            test("control", &["--test-threads", "2"])?;
        }
        test("e2e", &options.scenarios.iter().map(String::as_str).collect::<Vec<_>>())
    });
    if options.keep {
        println!("the cluster stays: cargo xtask cluster down --name {}", options.name);
    } else {
        Cluster::down(&options.name)?;
    }
    result.map(|()| ExitCode::SUCCESS)
}
