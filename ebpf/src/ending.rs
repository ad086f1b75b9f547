//! How a connection ended, by the last step between the states of its socket.

use crate::tcp;
use weft_ebpf_abi::SocketState;

/// Who reset a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reset {
    /// This side: the application left data unread, asked for it (`SO_LINGER`), or died of it.
    Ours,
    /// The other side, or its silence.
    Theirs,
}

/// Who reset the connection that goes from state `from` to `CLOSE`, having received (FIN included) so many bytes; `None` for
/// one that ended in peace.
///
/// Both FINs lead to `CLOSE` through `LAST_ACK`, `CLOSING` or `FIN_WAIT2`. A connection that gets there sooner was reset: by us
/// if the application had let go of the socket while there was still something to end, by them otherwise.
///
/// Exact but for rare ends: an application that has sent its FIN and heard more since may be reset unnoticed, and so may one
/// that let go of its socket meanwhile.
#[inline(always)]
pub fn reset(from: u32, state: &SocketState, received: u64) -> Option<Reset> {
    let released = state.released != 0;
    match from {
        tcp::ESTABLISHED | tcp::CLOSE_WAIT if released => Some(Reset::Ours),
        tcp::ESTABLISHED | tcp::CLOSE_WAIT | tcp::FIN_WAIT1 => Some(Reset::Theirs),
        // The peer's FIN would have been counted. The kernel takes an orphan from here without one.
        tcp::FIN_WAIT2 if !released && received == state.excess.received_by_fin => Some(Reset::Theirs),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weft_ebpf_abi::Excess;

    fn reset(from: u32, released: bool, received: u64) -> Option<Reset> {
        let excess = Excess { received_by_fin: 10, ..Excess::default() };
        super::reset(
            from,
            &SocketState { released: released.into(), excess, ..SocketState::default() },
            received,
        )
    }

    #[test]
    fn both_fins_are_a_peace() {
        for released in [false, true] {
            assert_eq!(reset(tcp::LAST_ACK, released, 11), None);
            assert_eq!(reset(tcp::CLOSING, released, 11), None);
            assert_eq!(reset(tcp::FIN_WAIT2, released, 11), None);
        }
        assert_eq!(
            reset(tcp::FIN_WAIT2, true, 10),
            None,
            "the kernel does not wait for the FIN that an orphan lacks"
        );
    }

    #[test]
    fn an_end_before_both_fins_is_a_reset() {
        for from in [tcp::ESTABLISHED, tcp::CLOSE_WAIT] {
            assert_eq!(reset(from, true, 11), Some(Reset::Ours));
            assert_eq!(reset(from, false, 11), Some(Reset::Theirs));
        }
        assert_eq!(reset(tcp::FIN_WAIT1, true, 10), Some(Reset::Theirs), "we had nothing more to reset");
        assert_eq!(reset(tcp::FIN_WAIT1, false, 10), Some(Reset::Theirs));
        assert_eq!(reset(tcp::FIN_WAIT2, false, 10), Some(Reset::Theirs));
    }
}
