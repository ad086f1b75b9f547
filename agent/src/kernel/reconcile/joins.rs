//! What the maps say of one connection: the same question as the programs ask (`weft-ebpf`'s `route`), for `explain`.

use super::Desired;
use crate::kernel::Kernel;
use std::net::SocketAddr;
use weft_ebpf_abi::{PairKey, destination, pair, workload};

impl Kernel {
    /// Whether the kernel itself joins (or refuses) the connection of the pod with cookie `source` to the workload's
    /// address `at`. Otherwise the agent decides.
    pub fn joins(&self, source: u64, at: SocketAddr) -> bool {
        let source = self.workloads.get(source).map(|known| (source, known.flags));
        source.is_some_and(|source| joins(&self.reconciler.actual, source, at))
    }
}

fn joins(maps: &Desired, (source, flags): (u64, u32), at: SocketAddr) -> bool {
    if flags & workload::ALWAYS_ENCRYPT != 0 {
        return false;
    }
    let Some(to) = maps.destinations.get(&at.ip().into()) else { return false };
    if to.cookie == 0 || to.cookie == source || to.flags & destination::TO_AGENT != 0 {
        return false;
    }
    let answer =
        |port: u16| maps.pairs.get(&PairKey { source, destination: to.cookie, port: port.into(), pad: 0 });
    to.flags & destination::ALLOW_ALL != 0
        || matches!(answer(at.port()).or_else(|| answer(0)), Some(&(pair::ALLOW | pair::DENY)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use weft_ebpf_abi::Destination;

    fn maps(cookie: u64, flags: u32) -> Desired {
        let at: std::net::IpAddr = "10.0.0.2".parse().unwrap();
        let mut maps = Desired::default();
        maps.destinations.insert(at.into(), Destination { cookie, kind: destination::WORKLOAD, flags });
        maps
    }

    #[test]
    fn the_kernel_joins_only_what_it_has_an_answer_for() {
        let at = "10.0.0.2:80".parse().unwrap();
        let one = (1, 0);
        assert!(joins(&maps(2, destination::ALLOW_ALL), one, at));
        assert!(!joins(&maps(2, 0), one, at), "the agent must decide");
        assert!(!joins(&maps(0, destination::ALLOW_ALL), one, at), "on another node");
        assert!(!joins(&maps(2, destination::ALLOW_ALL), (2, 0), at), "with itself");
        assert!(!joins(&maps(2, destination::ALLOW_ALL | destination::TO_AGENT), one, at));
        assert!(!joins(&maps(2, destination::ALLOW_ALL), (1, workload::ALWAYS_ENCRYPT), at));
        assert!(!joins(&Desired::default(), one, at));
        for (port, answer) in [(80, pair::ALLOW), (0, pair::DENY)] {
            let mut maps = maps(2, 0);
            maps.pairs.insert(PairKey { source: 1, destination: 2, port, pad: 0 }, answer);
            assert!(joins(&maps, one, at));
            assert!(!joins(&maps, (3, 0), at), "of another pod");
        }
    }
}
