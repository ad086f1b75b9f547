//! Which way a connection goes that reaches an enrolled pod.

use crate::route::{World, may_go_direct};
use weft_ebpf_abi::{Arrival, ArrivalKey, HBONE_PORT, arrival, listener, plain};

/// What happens to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// To whatever the application has listening there.
    Application,
    /// To the agent's listener of this role (see [`listener`]); refused where there is none.
    Agent(u32),
    /// Nowhere: what allowed it no longer does.
    Refused,
}

/// Decides for a connection to `port`. `recorded` is the kind of the record that its client's socket left on this node
/// (see [`arrival`]); 0 for none, which is what every connection from elsewhere has. `open` tells whether the port takes
/// whoever comes (see [`is_open`]); it is asked only where it matters.
///
/// Only the record counts, never an address: any host can send packets from any address.
#[inline(always)]
pub fn admit(recorded: u32, to_loopback: bool, port: u16, open: impl FnOnce() -> bool) -> Admission {
    match recorded {
        STALE => Admission::Refused,
        arrival::CAPTURED => Admission::Agent(listener::OUTBOUND),
        arrival::DIRECT | arrival::OWN | arrival::NODE | arrival::DELIVERY => Admission::Application,
        _ if to_loopback => Admission::Application,
        _ if port == HBONE_PORT => Admission::Agent(listener::HBONE),
        _ if open() => Admission::Application,
        _ => Admission::Agent(listener::INBOUND),
    }
}

/// Stands for a kind of record (see [`arrival`]): of a connection that was allowed when it was asked for, and would not be now.
const STALE: u32 = u32::MAX;

/// The kind of record that holds for a connection which arrives now; 0 for none.
///
/// A record lets in the one connection that it was made for. Its client may keep the record by never ending that connection,
/// and open another one of the same addresses and ports past its own kernel. Or its first packet is long in coming (the
/// network lost it; TCP Fast Open sends it with the first bytes that are written), and the policies have changed meanwhile.
#[inline(always)]
pub fn recorded<W: World>(world: &W, key: &ArrivalKey, found: &Arrival) -> u32 {
    if found.flags & arrival::SPENT != 0 {
        return 0;
    }
    let in_doubt = found.kind == arrival::DIRECT && found.opened_ns <= world.changed_ns();
    if in_doubt && !may_go_direct(world, found.source, key) { STALE } else { found.kind }
}

/// Whether the policies let anybody reach `port` in plaintext, by the table `PLAIN`: an answer for the port stands before
/// the one for all others (port 0). Without any the agent decides.
#[inline(always)]
pub fn is_open(port: u16, answer: impl Fn(u32) -> Option<u32>) -> bool {
    answer(u32::from(port)).or_else(|| answer(0)) == Some(plain::ALLOW)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admit(recorded: u32, to_loopback: bool, port: u16) -> Admission {
        super::admit(recorded, to_loopback, port, || false)
    }

    #[test]
    fn an_open_port_needs_no_agent_but_hbone_and_captured_connections_do() {
        assert_eq!(super::admit(0, false, 8080, || true), Admission::Application);
        assert_eq!(super::admit(0, false, HBONE_PORT, || true), Admission::Agent(listener::HBONE));
        let captured = super::admit(arrival::CAPTURED, false, 8080, || true);
        assert_eq!(captured, Admission::Agent(listener::OUTBOUND));
    }

    #[test]
    fn a_port_s_own_answer_stands_before_the_one_for_all() {
        let table = |entries: &'static [(u32, u32)]| {
            move |port| entries.iter().find(|(p, _)| *p == port).map(|(_, answer)| *answer)
        };
        assert!(is_open(80, table(&[(0, plain::ALLOW)])));
        assert!(!is_open(80, table(&[(0, plain::ALLOW), (80, plain::AGENT)])));
        assert!(is_open(80, table(&[(80, plain::ALLOW)])));
        assert!(!is_open(81, table(&[(80, plain::ALLOW)])));
        assert!(!is_open(80, table(&[])));
    }

    #[test]
    fn only_recorded_and_loopback_connections_reach_the_application() {
        for kind in [arrival::DIRECT, arrival::OWN, arrival::NODE, arrival::DELIVERY] {
            assert_eq!(admit(kind, false, 8080), Admission::Application);
            assert_eq!(admit(kind, false, HBONE_PORT), Admission::Application);
        }
        assert_eq!(admit(0, true, 8080), Admission::Application);
        assert_eq!(admit(0, false, 8080), Admission::Agent(listener::INBOUND));
        assert_eq!(admit(0, false, HBONE_PORT), Admission::Agent(listener::HBONE));
        assert_eq!(admit(99, false, 8080), Admission::Agent(listener::INBOUND));
    }

    #[test]
    fn captured_connections_reach_the_outbound_listener_on_any_port() {
        for port in [61_000, HBONE_PORT, 80] {
            assert_eq!(admit(arrival::CAPTURED, false, port), Admission::Agent(listener::OUTBOUND));
        }
    }
}
