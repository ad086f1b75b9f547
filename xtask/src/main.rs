//! Weft's tasks: `cargo xtask <task>`.
#![forbid(unsafe_code)]

mod bench;

use clap::Parser;

/// Weft's tasks.
#[derive(Parser)]
#[command(name = "cargo xtask")]
enum Task {
    /// Measure the mesh against the same work without one
    Bench(bench::Options),
}

fn main() -> anyhow::Result<()> {
    match Task::parse() {
        Task::Bench(options) => bench::run(&options),
    }
}
