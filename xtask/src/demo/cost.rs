//! What a path costs: a short look, not a benchmark (that is `cargo xtask bench`).

use super::stage::SINK;
use anyhow::{Context, Result, ensure};
use serde::Serialize;
use serde_json::Value;
use std::{fmt, net::SocketAddr};
use weft_tests::{Cluster, app};

/// A path that is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Path {
    /// Two pods of one node.
    SameNode,
    /// Two pods of two nodes.
    CrossNode,
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Path::SameNode => "same node",
            Path::CrossNode => "between nodes",
        })
    }
}

/// The paths and their callers; reviews is called, which no policy guards.
pub const PATHS: [(Path, &str); 2] =
    [(Path::SameNode, "bookshop/payments"), (Path::CrossNode, "bookshop/web")];

/// The pod that is called.
const CALLED: &str = "bookshop/reviews";

/// What was measured on a path.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Price {
    /// Median time of a request on a connection that is kept, in microseconds.
    pub latency_p50_us: f64,
    /// HTTP requests a second over 16 connections.
    pub requests_per_second: f64,
    /// Gigabits a second over one stream.
    pub gbit_per_second: f64,
}

/// What a path costs without and with the mesh.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Cost {
    /// The path.
    pub path: Path,
    /// Without.
    pub bare: Price,
    /// With.
    pub mesh: Price,
}

/// Measures both paths, in the order of [`PATHS`].
pub fn measure(cluster: &Cluster) -> Result<Vec<Price>> {
    PATHS.iter().map(|(_, caller)| measure_path(cluster, caller)).collect()
}

fn measure_path(cluster: &Cluster, caller: &str) -> Result<Price> {
    let from = cluster.pod(caller)?;
    let address = cluster.pod(CALLED)?.manifest.addresses.v4;
    let to = |port| SocketAddr::new(address.into(), port).to_string();
    let ask = |args: &[&str]| -> Result<Value> {
        let result = app::run(from, args)?;
        ensure!(result["ok"] == true, "weft-app {} in {caller}: {result}", args.join(" "));
        Ok(result)
    };
    let alone = ask(&["load", &to(8080), "--connections", "1", "--seconds", "1.5"])?;
    let many = ask(&["load", &to(8080), "--connections", "16", "--seconds", "1.5"])?;
    let bulk = ask(&["throughput", &to(SINK), "--seconds", "1.5"])?;
    let number = |value: &Value| value.as_f64().context("a measurement without a number");
    Ok(Price {
        latency_p50_us: number(&alone["latency_us"]["p50"])?,
        requests_per_second: number(&many["requests_per_second"])?,
        gbit_per_second: number(&bulk["gbit_per_second"])?,
    })
}
