//! The kinds of load, and which figures are read from each.

use super::lab::Server;
use anyhow::{Context, Result};
use serde_json::Value;

/// One kind of load, and the figures that are read from it.
pub struct Experiment {
    /// Which server is asked.
    pub server: Server,
    /// For what.
    pub load: Load,
    /// What is read from it.
    pub figures: &'static [Figure],
}

/// A kind of load.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Load {
    /// So many streams of bytes.
    Throughput(u32),
    /// Requests on so many kept connections.
    Requests(u32),
    /// New connections, sixteen in flight.
    Connections,
}

/// What is read from one run, the figure that compares it with the bare path, and the one that compares it with the
/// relays.
pub struct Figure(pub Reading, pub &'static str, pub Option<&'static str>);

/// What is read from one run.
#[derive(Clone, Copy)]
pub enum Reading {
    /// A field of what the client printed.
    Field(&'static str),
    /// The proxies' processor time for a gigabyte.
    CpuPerGigabyte,
    /// The proxies' processor time for 100,000 requests.
    CpuPerRequests,
}

const GBITS: Reading = Reading::Field("/gbit_per_second");
const REQUESTS: Reading = Reading::Field("/requests_per_second");
const P50: Reading = Reading::Field("/latency_us/p50");
const P99: Reading = Reading::Field("/latency_us/p99");
const CONNECTIONS: Reading = Reading::Field("/connections_per_second");

/// Every experiment, in the order of the report.
pub const EXPERIMENTS: &[Experiment] = &[
    Experiment {
        server: Server::Near,
        load: Load::Throughput(1),
        figures: &[Figure(GBITS, "same_node.throughput_1", None)],
    },
    Experiment {
        server: Server::Near,
        load: Load::Requests(64),
        figures: &[Figure(REQUESTS, "same_node.rps_64", None)],
    },
    Experiment {
        server: Server::Near,
        load: Load::Connections,
        figures: &[Figure(CONNECTIONS, "same_node.connections", None)],
    },
    Experiment {
        server: Server::Near,
        load: Load::Requests(1),
        figures: &[Figure(P50, "same_node.latency_p50", None), Figure(P99, "same_node.latency_p99", None)],
    },
    Experiment {
        server: Server::Far,
        load: Load::Throughput(1),
        figures: &[
            Figure(GBITS, "cross_node.throughput_1", Some("tls_relay.throughput_1")),
            Figure(Reading::CpuPerGigabyte, "cross_node.cpu_per_gb", Some("tls_relay.cpu_per_gb")),
        ],
    },
    Experiment {
        server: Server::Far,
        load: Load::Throughput(8),
        figures: &[Figure(GBITS, "cross_node.throughput_8", Some("tls_relay.throughput_8"))],
    },
    Experiment {
        server: Server::Far,
        load: Load::Requests(64),
        figures: &[
            Figure(REQUESTS, "cross_node.rps_64", Some("tls_relay.rps_64")),
            Figure(
                Reading::CpuPerRequests,
                "cross_node.cpu_per_100k_requests",
                Some("tls_relay.cpu_per_100k_requests"),
            ),
        ],
    },
    Experiment {
        server: Server::Far,
        load: Load::Requests(1),
        figures: &[
            Figure(P50, "cross_node.latency_p50", Some("tls_relay.latency_p50")),
            Figure(P99, "cross_node.latency_p99", Some("tls_relay.latency_p99")),
        ],
    },
    Experiment {
        server: Server::Far,
        load: Load::Connections,
        figures: &[Figure(CONNECTIONS, "cross_node.connections", Some("tls_relay.connections"))],
    },
];

impl Reading {
    /// The value, from what the client printed and the seconds of processor time that the proxies used meanwhile.
    pub fn read(self, told: &Value, proxies_cpu: f64) -> Result<f64> {
        let field =
            |at: &str| told.pointer(at).and_then(Value::as_f64).with_context(|| format!("no {at} in {told}"));
        Ok(match self {
            Self::Field(at) => field(at)?,
            Self::CpuPerGigabyte => proxies_cpu / (field("/bytes")? / 1e9),
            Self::CpuPerRequests => proxies_cpu / (field("/requests")? / 1e5),
        })
    }

    /// Whether it says something about proxies, and so nothing about a path without any.
    pub fn is_of_proxies(self) -> bool {
        matches!(self, Self::CpuPerGigabyte | Self::CpuPerRequests)
    }
}

impl Experiment {
    /// Whether it is also looked at for a minute. Only across nodes is there anything that could run out of ports.
    pub fn is_of_endurance(&self) -> bool {
        matches!((self.load, self.server), (Load::Connections, Server::Far))
    }

    /// What is measured, in words.
    pub fn describe(&self) -> String {
        let load = match self.load {
            Load::Throughput(1) => "1 stream".to_owned(),
            Load::Throughput(streams) => format!("{streams} streams"),
            Load::Requests(1) => "requests on 1 connection".to_owned(),
            Load::Requests(connections) => format!("requests on {connections} connections"),
            Load::Connections => "new connections".to_owned(),
        };
        let place = match self.server {
            Server::Near => "on a node",
            Server::Far => "across nodes",
        };
        format!("{load} {place}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::catalogue;

    #[test]
    fn every_figure_of_an_experiment_is_in_the_catalogue() {
        let names = EXPERIMENTS.iter().flat_map(|e| e.figures).flat_map(|f| [Some(f.1), f.2]).flatten();
        for name in names {
            assert!(catalogue::find(name).is_some(), "{name}");
        }
    }
}
