//! Weft's tasks: everything that a person or a machine does with this repository is a subcommand here.
#![forbid(unsafe_code)]

mod bench;
mod build;
mod clean_host;
mod cluster;
mod demo;
mod e2e;
mod fuzz;
mod generate;
mod image;
mod licences;
mod sbom;
mod setup;
mod shell;
mod skew;
mod steps;
mod test;

use anyhow::Result;
use clap::{Parser, Subcommand};
use std::process::ExitCode;

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    about = "Weft's tasks",
    after_help = "Examples:\n  \
        cargo xtask demo                 the mesh on two nodes, from real traffic\n  \
        cargo xtask test                 everything that must hold before a change is merged\n  \
        cargo xtask test --only clippy   one step of it\n  \
        cargo xtask clean-host           remove what crashed runs left on this machine"
)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Run the mesh on examples/bookshop and show what it does
    Demo(demo::Options),
    /// Install what the build and the tests need, where it is missing
    Setup,
    /// Build every binary
    Build(build::Options),
    /// Format, lints, tests of all kinds, documentation, licences
    Test(test::Options),
    /// Measure the mesh against the same work without one
    Bench(bench::Options),
    /// Try the mesh in a real Kubernetes
    E2e(e2e::Options),
    /// Run a real Kubernetes on this machine
    Cluster(cluster::Options),
    /// Run the fuzz targets for a short while
    Fuzz(fuzz::Options),
    /// Build images of our programs as OCI archives, with SBOM and licences inside
    Image(image::Options),
    /// Write which packages a program is made of (SPDX), and their licences
    Sbom(sbom::Options),
    /// Make the manifests from the chart
    Generate(generate::Options),
    /// Check the dependencies' licences and sources against deny.toml
    Licences,
    /// Remove namespaces, cgroups, pins and processes that crashed runs left behind
    CleanHost(clean_host::Options),
}

fn main() -> ExitCode {
    match run(Arguments::parse().task) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<ExitCode> {
    match task {
        Task::Demo(options) => return demo::run(&options),
        Task::Setup => setup::run()?,
        Task::Build(options) => build::run(&options)?,
        Task::Test(options) => return test::run(&options),
        Task::Bench(options) => return bench::run(&options),
        Task::E2e(options) => return e2e::run(&options),
        Task::Cluster(options) => return cluster::run(&options),
        Task::Fuzz(options) => fuzz::run(&options)?,
        Task::Image(options) => image::run(&options)?,
        Task::Sbom(options) => sbom::run(&options)?,
        Task::Generate(options) => generate::run(&options)?,
        Task::Licences => licences::run()?,
        Task::CleanHost(options) => clean_host::run(&options)?,
    }
    Ok(ExitCode::SUCCESS)
}
