//! Every figure that the benchmarks report, with its aim. The names and aims are a contract with readers of the report.

use serde::Serialize;

/// What a figure should reach.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Aim {
    /// The mesh keeps at least this share of what it is compared with.
    KeepsAtLeast(f64),
    /// The mesh needs at most this multiple of what it is compared with.
    NeedsAtMost(f64),
    /// The mesh's own figure stays within this, in the figure's unit.
    AtMost(f64),
    /// Reported without an aim.
    Told,
}

/// One figure.
#[derive(Clone, Copy, Debug)]
pub struct Figure {
    /// `<group>.<what>`.
    pub name: &'static str,
    /// The unit of its values.
    pub unit: &'static str,
    /// What it should reach.
    pub aim: Aim,
}

const fn figure(name: &'static str, unit: &'static str, aim: Aim) -> Figure {
    Figure { name, unit, aim }
}

use Aim::{AtMost, KeepsAtLeast, NeedsAtMost, Told};

/// All figures, in the order of the report.
///
/// `same_node.*` and `cross_node.*` compare with the same work on the same kind of pods without a mesh, `tls_relay.*` with
/// a plain rustls relay in place of the mesh, `guard.*` with the same mesh without a guard of pods that are not known yet, `decide.*` with a linear scan of the same data.
pub const FIGURES: &[Figure] = &[
    figure("same_node.throughput_1", "Gb/s", KeepsAtLeast(0.97)),
    figure("same_node.rps_64", "requests/s", KeepsAtLeast(0.97)),
    figure("same_node.connections", "connections/s", KeepsAtLeast(0.97)),
    figure("same_node.latency_p50", "µs", NeedsAtMost(1.03)),
    figure("same_node.latency_p99", "µs", NeedsAtMost(1.03)),
    figure("cross_node.throughput_1", "Gb/s", KeepsAtLeast(0.45)),
    figure("cross_node.throughput_8", "Gb/s", KeepsAtLeast(0.40)),
    figure("cross_node.rps_64", "requests/s", KeepsAtLeast(0.42)),
    figure("cross_node.latency_p50", "µs", NeedsAtMost(1.35)),
    figure("cross_node.latency_p99", "µs", NeedsAtMost(1.3)),
    figure("cross_node.connections", "connections/s", KeepsAtLeast(0.5)),
    figure("cross_node.cpu_per_100k_requests", "s", AtMost(2.2)),
    figure("cross_node.cpu_per_gb", "s", AtMost(0.5)),
    figure("guard.connections", "connections/s", KeepsAtLeast(0.97)),
    figure("guard.rps_64", "requests/s", KeepsAtLeast(0.97)),
    figure("guard.throughput_1", "Gb/s", KeepsAtLeast(0.97)),
    figure("guard.all_connections", "connections/s", Told),
    figure("guard.all_rps_64", "requests/s", Told),
    figure("guard.all_throughput_1", "Gb/s", Told),
    figure("memory.idle", "MB", Told),
    figure("memory.workloads_10k", "MB", AtMost(20.0)),
    figure("memory.workloads_100k", "MB", Told),
    figure("memory.per_connection", "kB", AtMost(3.0)),
    figure("tls_relay.throughput_1", "Gb/s", KeepsAtLeast(1.0)),
    figure("tls_relay.throughput_8", "Gb/s", KeepsAtLeast(1.0)),
    figure("tls_relay.rps_64", "requests/s", KeepsAtLeast(1.0)),
    figure("tls_relay.latency_p50", "µs", NeedsAtMost(1.0)),
    figure("tls_relay.latency_p99", "µs", NeedsAtMost(1.0)),
    figure("tls_relay.connections", "connections/s", KeepsAtLeast(1.0)),
    figure("tls_relay.cpu_per_100k_requests", "s", NeedsAtMost(1.0)),
    figure("tls_relay.cpu_per_gb", "s", NeedsAtMost(1.0)),
    figure("decide.endpoint_of_10k", "µs", AtMost(1.0)),
    figure("decide.policies_10k", "µs", AtMost(10.0)),
    figure("propagation.manifest_to_kernel", "ms", AtMost(50.0)),
];

/// The figure called `name`.
pub fn find(name: &str) -> Option<&'static Figure> {
    FIGURES.iter().find(|figure| figure.name == name)
}

impl Aim {
    /// Whether it is met, given the mesh's median and its ratio to what it is compared with; nothing where there is no
    /// aim, or no ratio to judge by.
    pub fn is_met(self, mesh: f64, ratio: Option<f64>) -> Option<bool> {
        match self {
            KeepsAtLeast(share) => ratio.map(|ratio| ratio >= share),
            NeedsAtMost(multiple) => ratio.map(|ratio| ratio <= multiple),
            AtMost(limit) => Some(mesh <= limit),
            Told => None,
        }
    }

    /// The aim in words, as the table shows it.
    pub fn describe(self, unit: &str) -> String {
        match self {
            KeepsAtLeast(share) => format!("ratio ≥ {share}"),
            NeedsAtMost(multiple) => format!("ratio ≤ {multiple}"),
            AtMost(limit) => format!("≤ {limit} {unit}"),
            Told => String::new(),
        }
    }
}

/// Median and range of the runs of one side.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// The middle value; of an even number of runs, the mean of the two in the middle.
    pub median: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
}

impl Spread {
    /// The spread of `values`, or nothing where there are none.
    pub fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let (low, high) = (sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2]);
        Some(Self { median: (low + high) / 2.0, min, max })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_lies_between() {
        let spread = Spread::of(&[4.0, 1.0, 3.0, 10.0]).unwrap();
        assert_eq!(spread, Spread { median: 3.5, min: 1.0, max: 10.0 });
        assert_eq!(Spread::of(&[7.0]).unwrap().median, 7.0);
        assert_eq!(Spread::of(&[]), None);
    }

    #[test]
    fn aims_judge_by_ratio_or_by_value() {
        assert_eq!(KeepsAtLeast(0.45).is_met(1.0, Some(0.44)), Some(false));
        assert_eq!(NeedsAtMost(1.3).is_met(1.0, Some(1.3)), Some(true));
        assert_eq!(KeepsAtLeast(0.45).is_met(1.0, None), None);
        assert_eq!(AtMost(2.2).is_met(2.3, None), Some(false));
        assert_eq!(Told.is_met(1.0, Some(1.0)), None);
    }

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = FIGURES.iter().map(|figure| figure.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), FIGURES.len());
    }
}
