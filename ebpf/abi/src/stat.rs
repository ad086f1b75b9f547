//! Counters: `STATS` is a per-CPU array of `u64`, indexed by [`Stat`].

/// What is counted.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stat {
    /// Connections of enrolled workloads that left untouched.
    Passed,
    /// Connections that went direct.
    Direct,
    /// Connections captured for the agent.
    Captured,
    /// Connections refused by policy.
    Denied,
    /// Inbound connections let through to the application.
    Admitted,
    /// Inbound connections steered to the agent.
    Steered,
    /// Inbound connections refused because no listener of the agent was there.
    Orphaned,
    /// Events that found the ring buffer full.
    EventsLost,
    /// Records that a full map, or a lack of memory, turned away.
    RecordsLost,
    /// Connections of pods that were not classified yet, refused.
    Guarded,
}

/// Every counter, with its name.
pub const STATS: [(Stat, &str); 10] = [
    (Stat::Passed, "passed"),
    (Stat::Direct, "direct"),
    (Stat::Captured, "captured"),
    (Stat::Denied, "denied"),
    (Stat::Admitted, "admitted"),
    (Stat::Steered, "steered"),
    (Stat::Orphaned, "orphaned"),
    (Stat::EventsLost, "events_lost"),
    (Stat::RecordsLost, "records_lost"),
    (Stat::Guarded, "guarded"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_counter_stands_at_its_own_index() {
        for (index, (stat, name)) in STATS.iter().enumerate() {
            assert_eq!(*stat as usize, index, "{name}");
        }
    }
}
