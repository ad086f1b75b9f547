//! Which of the bytes that the kernel counts are not the application's.

use crate::tcp;
use weft_ebpf_abi::Excess;

/// The connection that we asked for was established: our SYN is acknowledged. (The kernel does not count the SYN of one that
/// was accepted.)
#[inline(always)]
pub fn established(excess: &mut Excess) {
    excess.sent = 1;
}

/// The connection moved from one state to another, having received (FIN included) so many bytes.
///
/// Exact but for two rare ends: one that is reset while it waits for the acknowledgement of its FIN, and one that is
/// closed after it received more upon its own FIN but never the peer's. These may be a byte short.
#[inline(always)]
pub fn moved(excess: &mut Excess, from: u32, to: u32, received: u64) {
    match (from, to) {
        (_, tcp::CLOSE_WAIT | tcp::CLOSING) => excess.received = 1,
        (tcp::FIN_WAIT1, tcp::FIN_WAIT2) => {
            excess.sent += 1;
            excess.received_by_fin = received;
        }
        // The kernel closes an orphaned socket right here without the peer's FIN; nothing was received since then.
        (tcp::FIN_WAIT2, tcp::CLOSE) if received > excess.received_by_fin => excess.received = 1,
        (tcp::LAST_ACK | tcp::CLOSING, tcp::CLOSE) => excess.sent += 1,
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The excess after these moves: (to, received).
    fn after(moves: &[(u32, u64)]) -> (u32, u32) {
        let mut excess = Excess::default();
        established(&mut excess);
        let mut from = 1;
        for (to, received) in moves {
            moved(&mut excess, from, *to, *received);
            from = *to;
        }
        (excess.sent, excess.received)
    }

    #[test]
    fn both_ends_in_peace() {
        assert_eq!(after(&[]), (1, 0));
        let passive = [(tcp::CLOSE_WAIT, 11), (tcp::LAST_ACK, 11), (tcp::CLOSE, 11)];
        assert_eq!(after(&passive), (2, 1));
        let active = [(tcp::FIN_WAIT1, 10), (tcp::FIN_WAIT2, 10), (tcp::CLOSE, 11)];
        assert_eq!(after(&active), (2, 1));
        let simultaneous = [(tcp::FIN_WAIT1, 10), (tcp::CLOSING, 11), (tcp::CLOSE, 11)];
        assert_eq!(after(&simultaneous), (2, 1));
    }

    #[test]
    fn an_orphan_does_not_wait_for_the_peer_s_fin() {
        assert_eq!(after(&[(tcp::FIN_WAIT1, 10), (tcp::FIN_WAIT2, 10), (tcp::CLOSE, 10)]), (2, 0));
    }

    #[test]
    fn a_reset_carries_no_fin() {
        assert_eq!(after(&[(tcp::CLOSE, 10)]), (1, 0));
        assert_eq!(after(&[(tcp::FIN_WAIT1, 10), (tcp::CLOSE, 10)]), (1, 0));
        assert_eq!(after(&[(tcp::CLOSE_WAIT, 11), (tcp::CLOSE, 11)]), (1, 1));
    }
}
