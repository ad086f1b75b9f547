//! Which way a connection goes that reaches an enrolled pod.

use weft_ebpf_abi::{HBONE_PORT, arrival, listener};

/// What happens to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// To whatever the application has listening there.
    Application,
    /// To the agent's listener of this role (see [`listener`]); refused where there is none.
    Agent(u32),
}

/// Decides for a connection to `port`. `recorded` is the kind of the record that its client's socket left on this node
/// (see [`arrival`]); 0 for none, which is what every connection from elsewhere has.
///
/// Only the record counts, never an address: any host can send packets from any address.
#[inline(always)]
pub fn admit(recorded: u32, to_loopback: bool, port: u16) -> Admission {
    match recorded {
        arrival::CAPTURED => Admission::Agent(listener::OUTBOUND),
        arrival::DIRECT | arrival::OWN | arrival::NODE | arrival::DELIVERY => Admission::Application,
        _ if to_loopback => Admission::Application,
        _ if port == HBONE_PORT => Admission::Agent(listener::HBONE),
        _ => Admission::Agent(listener::INBOUND),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
