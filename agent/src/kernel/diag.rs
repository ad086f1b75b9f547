//! Asking the kernel about a pod's sockets: figures of live connections at no cost to them.
//!
//! The programs keep what they know of a connection with its socket (`SOCKETS`). `sock_diag(7)` answers with that and
//! with the socket's own counters, when asked; nothing is copied while the connection runs.

use super::{
    KernelError,
    flow::{Figures, Flow},
    maps::{self, read},
};
use crate::sock_diag::{Found, SockDiag, attribute, state, u32_at, u64_at};
use aya::maps::MapData;
use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd},
};
use weft_ebpf_abi::{Excess, SocketState};

// Numbers of linux/sock_diag.h and linux/inet_diag.h.
const REQUEST_BPF_STORAGES: u16 = 2;
const REQUEST_MAP_FD: u16 = 1;
const INFO: u16 = 2;
const BPF_STORAGES: u16 = 20;
const BPF_STORAGE: u16 = 1;
const MAP_VALUE: u16 = 3;

/// Every state but listeners, the half-made ones, and TIME_WAIT: what is left then is no socket any more, carries nothing, and
/// there may be tens of thousands.
const STATES: u32 =
    0xfff & !state::only(&[state::SYN_RECEIVED, state::TIME_WAIT, state::CLOSE, state::LISTEN]);

/// A way into one namespace's sockets.
pub(super) struct Diag(SockDiag);

impl Diag {
    /// Opens it; `netns` may be forgotten afterwards.
    pub(super) fn open(netns: BorrowedFd<'_>) -> Result<Self, KernelError> {
        // A thread of its own: nothing else must run in the pod's namespace meanwhile, and it ends with the thread.
        let opened = std::thread::scope(|scope| {
            let inside = || {
                nix::sched::setns(netns, nix::sched::CloneFlags::CLONE_NEWNET)?;
                SockDiag::open()
            };
            scope.spawn(inside).join().unwrap_or_else(|_| Err(io::Error::from_raw_os_error(libc::EIO)))
        });
        opened.map(Self).map_err(KernelError::call("socket(NETLINK_SOCK_DIAG)"))
    }

    /// Adds the live connections of the namespace whose sockets carry a state.
    pub(super) fn flows(&self, states: &MapData, into: &mut Vec<Flow>) -> io::Result<()> {
        let storages = storages(states.fd().as_fd().as_raw_fd() as u32);
        self.0.each(STATES, 1 << (INFO - 1), &storages, |found| into.extend(flow(found)))
    }
}

/// Asks for the sockets' values in the map.
fn storages(map: u32) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(12);
    for (length, kind) in [(12_u16, REQUEST_BPF_STORAGES), (8, REQUEST_MAP_FD)] {
        bytes.extend(length.to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
    }
    bytes.extend(map.to_ne_bytes());
    bytes
}

/// One socket, if it carries the state of a connection that is accounted.
fn flow(found: &Found<'_>) -> Option<Flow> {
    let value = attribute(found.attributes, BPF_STORAGES)
        .and_then(|storages| attribute(storages, BPF_STORAGE))
        .and_then(|storage| attribute(storage, MAP_VALUE))?;
    let carried: SocketState = read(value)?;
    let info = attribute(found.attributes, INFO)?;
    // Of a connection that is ending only this one stays long: the peer is done, we are not.
    let received = u32::from(found.state == state::CLOSE_WAIT).max(carried.excess.received);
    let excess = Excess { received, ..carried.excess };
    // struct tcp_info of linux/tcp.h.
    let figures = Figures {
        srtt_us: u32_at(info, 68)?,
        retransmits: u32_at(info, 100)?,
        bytes_sent: u64_at(info, 120)?.saturating_sub(u64::from(excess.sent)),
        bytes_received: u64_at(info, 128)?.saturating_sub(u64::from(excess.received)),
    };
    Flow::live(found.cookie, found.local, &carried, figures)
}

/// The map whose values the answers carry.
pub(super) fn states(pins: &super::pins::Pins) -> Result<MapData, KernelError> {
    maps::data(pins, "SOCKETS")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_besides_is_as_long_as_it_says() {
        let bytes = storages(7);
        assert_eq!(bytes.len(), 12);
        let inner = attribute(&bytes, REQUEST_BPF_STORAGES).unwrap();
        assert_eq!(attribute(inner, REQUEST_MAP_FD), Some(&7_u32.to_ne_bytes()[..]));
    }

    #[test]
    fn listeners_and_what_is_no_socket_any_more_are_not_asked_for() {
        for (asked, of) in [
            (true, state::ESTABLISHED),
            (true, state::CLOSE_WAIT),
            (false, state::LISTEN),
            (false, state::TIME_WAIT),
        ] {
            assert_eq!(STATES >> of & 1 == 1, asked, "{of}");
        }
    }
}
