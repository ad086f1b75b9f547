//! Which of a pod's listeners takes the next connection.

use weft_ebpf_abi::LISTENER_SLOTS;

/// The slot to try for connection number `turn` of a pod with this many `listeners` of a role, after `failed` slots that
/// were empty. Over all `failed` below [`LISTENER_SLOTS`] each slot is tried, those with listeners first: a lane that is
/// gone costs its neighbour a connection more, and nobody a connection.
#[inline(always)]
pub fn slot(turn: u32, listeners: u32, failed: u32) -> u32 {
    if listeners == 0 || listeners > LISTENER_SLOTS || failed >= listeners {
        failed % LISTENER_SLOTS
    } else {
        (turn % listeners + failed) % listeners
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn connections_go_round() {
        let taken: std::vec::Vec<_> = (0..6).map(|turn| slot(turn, 3, 0)).collect();
        assert_eq!(taken, [0, 1, 2, 0, 1, 2]);
        assert_eq!(slot(u32::MAX, 2, 0), 1);
    }

    #[test]
    fn every_slot_is_tried_and_those_with_listeners_come_first() {
        for (turn, listeners) in [(0, 1), (5, 3), (63, 64), (7, 0), (7, 1000), (u32::MAX, 64)] {
            let tried: BTreeSet<_> =
                (0..LISTENER_SLOTS).map(|failed| slot(turn, listeners, failed)).collect();
            assert_eq!(tried, (0..LISTENER_SLOTS).collect(), "{turn} {listeners}");
        }
        let first: BTreeSet<_> = (0..3).map(|failed| slot(5, 3, failed)).collect();
        assert_eq!(first, [0, 1, 2].into());
    }
}
