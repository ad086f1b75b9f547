//! A real Kubernetes on this machine (`tests/cluster`).

use crate::{setup, shell};
use anyhow::{Result, ensure};
use clap::{Args, Subcommand};
use std::{process::ExitCode, time::Instant};
use weft_cluster::{Cluster, Parts, cluster, parts::go, plan};
use weft_tests::kernel;

/// Programs and files that a cluster is made of, and the Debian packages that hold them.
const PROGRAMS: [(&str, &str); 9] = [
    ("etcd", "etcd-server"),
    ("containerd", "containerd"),
    ("runc", "runc"),
    ("conntrack", "conntrack"),
    ("socat", "socat"),
    ("nft", "nftables"),
    ("objcopy", "binutils"),
    ("/bin/busybox", "busybox-static"),
    ("/usr/lib/cni/ptp", "containernetworking-plugins"),
];

/// What the rest of it is built with.
const GO: [(&str, &str); 1] = [("go", "golang-go")];

#[derive(Args)]
pub struct Options {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Bring a cluster up, or what of it does not run
    Up {
        #[command(flatten)]
        name: Name,
        /// How many nodes it has
        #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(0..=20))]
        nodes: u8,
        /// Leave DNS out
        #[arg(long)]
        no_dns: bool,
        /// Leave IPv6 out, which it has wherever the kernel does
        #[arg(long)]
        no_ipv6: bool,
    },
    /// Remove a cluster and all that it made on this machine
    Down {
        #[command(flatten)]
        name: Name,
        /// Every cluster of this machine
        #[arg(long, conflicts_with = "name")]
        all: bool,
    },
    /// Say which parts of it run, and what its nodes say
    Status {
        #[command(flatten)]
        name: Name,
    },
    /// Run kubectl on it, as an administrator
    #[command(disable_help_flag = true)]
    Kubectl {
        /// The cluster; before the arguments of kubectl
        #[arg(long, default_value = cluster::DEFAULT_NAME)]
        name: String,
        /// What kubectl is given
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Build its programs alone, and say where they are
    Build,
}

#[derive(Args)]
struct Name {
    /// The cluster's name
    #[arg(long, default_value = cluster::DEFAULT_NAME)]
    name: String,
}

pub fn run(options: &Options) -> Result<ExitCode> {
    match &options.task {
        Task::Up { name, nodes, no_dns, no_ipv6 } => {
            let name = name.name.clone();
            shell::run(&mut shell::cargo(&["build", "--locked", "--package", "weft-cluster", "--bins"]))?;
            up(&cluster::Options { name, nodes: *nodes, dns: !no_dns, ipv6: !no_ipv6 })?;
        }
        Task::Down { name, all } => {
            let names = if *all { plan::names()? } else { vec![name.name.clone()] };
            for name in names {
                Cluster::down(&name)?;
                println!("the cluster {name} is gone");
            }
        }
        Task::Status { name } => return status(&name.name),
        Task::Kubectl { name, arguments } => {
            let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
            let status = Cluster::open(name)?.client().command(&arguments).status()?;
            return Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        Task::Build => {
            parts()?;
            println!("{}", Parts::find()?.directory().display());
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Installs and builds what it is made of, where that is missing.
fn parts() -> Result<()> {
    setup::install(&PROGRAMS)?;
    if !Parts::are_built()? && go::find().is_none() {
        // Also where the distribution's is old: it fetches a newer one.
        setup::install(&GO)?;
    }
    Parts::build().map(drop)
}

/// Brings a cluster up, with all that it takes; our own program for it must be built.
pub fn up(options: &cluster::Options) -> Result<Cluster> {
    kernel::namespaces()?;
    parts()?;
    let begun = Instant::now();
    let cluster = Cluster::up(options)?;
    println!(
        "the cluster {} is up after {:.1} s: {} nodes{}\n\
         export KUBECONFIG={} PATH={}:$PATH",
        options.name,
        begun.elapsed().as_secs_f64(),
        options.nodes,
        if cluster.plan().dual_stack { ", IPv4 and IPv6" } else { "" },
        cluster.kubeconfig().display(),
        cluster.parts().directory().display(),
    );
    Ok(cluster)
}

fn status(name: &str) -> Result<ExitCode> {
    let cluster = Cluster::open(name)?;
    let parts = cluster.status()?;
    for (part, runs) in &parts {
        println!("{} {part}", if *runs { "runs   " } else { "stopped" });
    }
    let nodes = cluster.kubectl(&["get", "nodes", "--output=wide", "--request-timeout=5s"])?;
    println!("\n{nodes}");
    let stopped = parts.iter().filter(|(_, runs)| !runs).count();
    ensure!(stopped == 0, "{stopped} parts do not run: cargo xtask cluster up --name {name}");
    Ok(ExitCode::SUCCESS)
}
