//! What runs beside a cluster and is not Kubernetes.
#![forbid(unsafe_code)]

use clap::Parser;

#[derive(Parser)]
#[command(name = "weft-cluster", about = "Programs beside a cluster; `cargo xtask cluster` starts them")]
enum Task {
    /// Give addresses to the cluster's LoadBalancer Services
    Balancer {
        /// The cluster's name
        #[arg(long)]
        name: String,
    },
}

fn main() -> anyhow::Result<()> {
    match Task::parse() {
        Task::Balancer { name } => weft_cluster::balancer::run(&name),
    }
}
