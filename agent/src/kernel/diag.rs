//! Asking the kernel about a pod's sockets: figures of live connections at no cost to them.
//!
//! The programs keep what they know of a connection with its socket (`SOCKETS`). `sock_diag(7)` answers with that and
//! with the socket's own counters, when asked; nothing is copied while the connection runs.

use super::{
    Flow, KernelError,
    flows::Figures,
    maps::{self, read},
};
use aya::maps::MapData;
use nix::sys::{
    socket::{
        AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, setsockopt, socket,
        sockopt::ReceiveTimeout,
    },
    time::{TimeVal, TimeValLike},
};
use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};
use weft_ebpf_abi::{Excess, SocketState};

// Numbers of linux/netlink.h, linux/sock_diag.h, linux/inet_diag.h and the kernel's TCP states.
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST_DUMP: u16 = 0x301;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const REQUEST_BPF_STORAGES: u16 = 2;
const REQUEST_MAP_FD: u16 = 1;
const INFO: u16 = 2;
const BPF_STORAGES: u16 = 20;
const BPF_STORAGE: u16 = 1;
const MAP_VALUE: u16 = 3;
const CLOSE_WAIT: u8 = 8;

/// Bytes of the headers before the attributes: of a message, and of its `inet_diag_msg`.
const HEADER: usize = 16;
const DIAG: usize = 72;

/// A way into one namespace's sockets.
pub(super) struct Diag {
    socket: OwnedFd,
}

impl Diag {
    /// Opens it; `netns` may be forgotten afterwards.
    pub(super) fn open(netns: BorrowedFd<'_>) -> Result<Self, KernelError> {
        // A thread of its own: nothing else must run in the pod's namespace meanwhile, and it ends with the thread.
        let opened = std::thread::scope(|scope| {
            let inside = || {
                nix::sched::setns(netns, nix::sched::CloneFlags::CLONE_NEWNET)?;
                let made = socket(
                    AddressFamily::Netlink,
                    SockType::Datagram,
                    SockFlag::SOCK_CLOEXEC,
                    SockProtocol::NetlinkSockDiag,
                )?;
                setsockopt(&made, ReceiveTimeout, &TimeVal::seconds(1))?;
                Ok::<_, nix::Error>(made)
            };
            scope.spawn(inside).join().unwrap_or(Err(nix::Error::EIO))
        });
        Ok(Self { socket: opened.map_err(|e| KernelError::call("socket(NETLINK_SOCK_DIAG)")(e.into()))? })
    }

    /// Adds the live connections of the namespace whose sockets carry a state.
    pub(super) fn flows(&self, states: &MapData, into: &mut Vec<Flow>) -> io::Result<()> {
        for family in [libc::AF_INET, libc::AF_INET6] {
            let request = request(family as u8, states.fd().as_fd().as_raw_fd() as u32);
            send(self.socket.as_raw_fd(), &request, MsgFlags::empty())?;
            let mut answer = vec![0; 65_536];
            loop {
                let length = recv(self.socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
                if length == 0 || parse(&answer[..length], into)? {
                    break;
                }
            }
        }
        Ok(())
    }
}

/// Asks for all TCP sockets of a family, with their counters and their values in the map.
fn request(family: u8, map: u32) -> Vec<u8> {
    const SIZE: u32 = (HEADER + 56 + 12) as u32;
    let mut bytes = Vec::with_capacity(SIZE as usize);
    bytes.extend(SIZE.to_ne_bytes());
    bytes.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    bytes.extend(NLM_F_REQUEST_DUMP.to_ne_bytes());
    bytes.extend([0; 8]);
    bytes.extend([family, libc::IPPROTO_TCP as u8, 1 << (INFO - 1), 0]);
    // Every state but LISTEN (10), the half-made ones (3, 7 and 12), and TIME_WAIT (6): what is left then is no socket any more,
    // carries nothing, and there may be tens of thousands.
    bytes.extend((0xfff_u32 & !(1 << 3 | 1 << 6 | 1 << 7 | 1 << 10)).to_ne_bytes());
    bytes.extend([0; 48]);
    for (length, kind) in [(12_u16, REQUEST_BPF_STORAGES), (8, REQUEST_MAP_FD)] {
        bytes.extend(length.to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
    }
    bytes.extend(map.to_ne_bytes());
    bytes
}

/// Reads one datagram of messages; true when it ends the answer.
fn parse(mut bytes: &[u8], into: &mut Vec<Flow>) -> io::Result<bool> {
    while bytes.len() >= HEADER {
        let length = u32_at(bytes, 0).unwrap_or(0) as usize;
        if length < HEADER || length > bytes.len() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a message of impossible length"));
        }
        let (message, rest) = bytes.split_at(length);
        match u16_at(message, 4) {
            Some(NLMSG_DONE) => return Ok(true),
            Some(NLMSG_ERROR) => {
                let errno = u32_at(message, HEADER).unwrap_or(0) as i32;
                return Err(io::Error::from_raw_os_error(-errno));
            }
            Some(SOCK_DIAG_BY_FAMILY) => into.extend(flow(&message[HEADER..])),
            _ => {}
        }
        bytes = rest.get((length.next_multiple_of(4) - length).min(rest.len())..).unwrap_or_default();
    }
    Ok(false)
}

/// One socket, if it carries the state of a connection that is accounted.
fn flow(message: &[u8]) -> Option<Flow> {
    let attributes = message.get(DIAG..)?;
    let value = attribute(attributes, BPF_STORAGES)
        .and_then(|storages| attribute(storages, BPF_STORAGE))
        .and_then(|storage| attribute(storage, MAP_VALUE))?;
    let state: SocketState = read(value)?;
    let info = attribute(attributes, INFO)?;
    let cookie = u64::from(u32_at(message, 44)?) | u64::from(u32_at(message, 48)?) << 32;
    // Of a connection that is ending only this one stays long: the peer is done, we are not.
    let received = u32::from(message[1] == CLOSE_WAIT).max(state.excess.received);
    let excess = Excess { received, ..state.excess };
    // struct tcp_info of linux/tcp.h.
    let figures = Figures {
        srtt_us: u32_at(info, 68)?,
        retransmits: u32_at(info, 100)?,
        bytes_sent: u64_at(info, 120)?.saturating_sub(u64::from(excess.sent)),
        bytes_received: u64_at(info, 128)?.saturating_sub(u64::from(excess.received)),
    };
    Flow::live(cookie, local(message)?, &state, figures)
}

fn local(message: &[u8]) -> Option<SocketAddr> {
    let port = u16::from_be_bytes(message.get(4..6)?.try_into().ok()?);
    let ip: IpAddr = if i32::from(message[0]) == libc::AF_INET {
        Ipv4Addr::from(<[u8; 4]>::try_from(message.get(8..12)?).ok()?).into()
    } else {
        Ipv6Addr::from(<[u8; 16]>::try_from(message.get(8..24)?).ok()?).into()
    };
    Some(SocketAddr::new(ip.to_canonical(), port))
}

/// The content of the first attribute of a kind.
fn attribute(mut bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    /// The two upper bits of a kind are flags.
    const KIND: u16 = 0x3fff;
    loop {
        let length = usize::from(u16_at(bytes, 0)?);
        let kind = u16_at(bytes, 2)? & KIND;
        let content = bytes.get(4..length)?;
        if kind == wanted {
            return Some(content);
        }
        bytes = bytes.get(length.next_multiple_of(4)..)?;
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

/// The map whose values the answers carry.
pub(super) fn states(pins: &super::pins::Pins) -> Result<MapData, KernelError> {
    maps::data(pins, "SOCKETS")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_found_and_broken_ones_are_not_followed() {
        let bytes = [8, 0, 1, 0, 9, 9, 9, 9, 6, 0, 2, 0x80, 7, 8, 0, 0];
        assert_eq!(attribute(&bytes, 1), Some(&[9, 9, 9, 9][..]));
        assert_eq!(attribute(&bytes, 2), Some(&[7, 8][..]));
        assert_eq!(attribute(&bytes, 3), None);
        for broken in [&bytes[..3], &[0, 0, 1, 0][..], &[3, 0, 1, 0][..], &[9, 0, 1, 0, 1][..]] {
            assert_eq!(attribute(broken, 1), None);
        }
    }

    #[test]
    fn messages_end_the_answer_or_carry_an_error() {
        let message = |kind: u16, body: &[u8]| {
            let mut bytes = (16 + body.len() as u32).to_ne_bytes().to_vec();
            bytes.extend(kind.to_ne_bytes());
            bytes.extend([0; 10]);
            bytes.extend(body);
            bytes
        };
        let mut flows = Vec::new();
        assert!(parse(&message(NLMSG_DONE, &[0; 4]), &mut flows).unwrap());
        assert!(!parse(&message(SOCK_DIAG_BY_FAMILY, &[0; 72]), &mut flows).unwrap());
        let refused = parse(&message(NLMSG_ERROR, &(-libc::EPERM).to_ne_bytes()), &mut flows);
        assert_eq!(refused.unwrap_err().raw_os_error(), Some(libc::EPERM));
        assert!(parse(&[0xff; 20], &mut flows).is_err());
        assert!(flows.is_empty());
    }

    #[test]
    fn a_request_is_as_long_as_it_says() {
        assert_eq!(u32_at(&request(2, 7), 0), Some(request(2, 7).len() as u32));
    }
}
