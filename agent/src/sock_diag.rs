//! sock_diag(7): asking the kernel which TCP sockets a network namespace has, and destroying one of them.
//!
//! A socket is destroyed by its cookie and never by its addresses alone: where the connection is gone by then, the kernel
//! would find the application's listener at the local address, and destroy that.

use nix::errno::Errno;
use socket2::{Domain, Protocol, Socket, Type};
use std::{
    io::{self, Read},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

// Numbers of linux/netlink.h, linux/sock_diag.h and linux/inet_diag.h.
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const SOCK_DESTROY: u16 = 21;
/// Stands for whatever cookie the socket has (`INET_DIAG_NOCOOKIE` in both its halves).
const ANY: u64 = u64::MAX;

/// The lengths of `nlmsghdr`, `inet_diag_req_v2` and `inet_diag_msg`.
const HEADER: usize = 16;
const REQUEST: usize = 56;
const MESSAGE: usize = 72;

/// Datagrams of one answer that are read, of some hundreds of sockets each.
const MOST_ANSWERS: usize = 65_536;

/// The kernel's numbers of TCP states.
pub mod state {
    /// `TCP_ESTABLISHED`.
    pub const ESTABLISHED: u8 = 1;
    /// `TCP_SYN_SENT`.
    pub const SYN_SENT: u8 = 2;
    /// `TCP_SYN_RECV`.
    pub const SYN_RECEIVED: u8 = 3;
    /// `TCP_TIME_WAIT`.
    pub const TIME_WAIT: u8 = 6;
    /// `TCP_CLOSE`.
    pub const CLOSE: u8 = 7;
    /// `TCP_CLOSE_WAIT`.
    pub const CLOSE_WAIT: u8 = 8;
    /// `TCP_LISTEN`.
    pub const LISTEN: u8 = 10;
    /// Every state, as [`super::SockDiag::each`] wants them.
    pub const ALL: u32 = u32::MAX;
    /// These states alone.
    pub const fn only(states: &[u8]) -> u32 {
        let (mut set, mut n) = (0, 0);
        while n < states.len() {
            set |= 1 << states[n];
            n += 1;
        }
        set
    }
}

/// A way to the sockets of one network namespace.
#[derive(Debug)]
pub struct SockDiag {
    socket: Socket,
}

/// One socket, as the kernel tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found<'a> {
    /// Its TCP state.
    pub state: u8,
    /// Its own end.
    pub local: SocketAddr,
    /// The other one.
    pub remote: SocketAddr,
    /// One number for each socket while the machine runs.
    pub cookie: u64,
    /// The inode by which a process holds it.
    pub inode: u32,
    /// What else was asked for: see [`attribute`].
    pub attributes: &'a [u8],
}

impl SockDiag {
    /// Opens one of the calling thread's network namespace, which the thread may leave afterwards.
    pub fn open() -> io::Result<Self> {
        let kind = Some(Protocol::from(libc::NETLINK_SOCK_DIAG));
        let socket = Socket::new(Domain::from(libc::AF_NETLINK), Type::DGRAM, kind)?;
        socket.set_read_timeout(Some(Duration::from_secs(1)))?;
        Ok(Self { socket })
    }

    /// Shows `visit` every TCP socket that is in one of `states`. `extensions` are the bits of `idiag_ext`, `more` goes behind
    /// the request.
    pub fn each(
        &self,
        states: u32,
        extensions: u8,
        more: &[u8],
        mut visit: impl FnMut(&Found<'_>),
    ) -> io::Result<()> {
        let mut answer = vec![0; 65_536];
        for any in [IpAddr::from(Ipv4Addr::UNSPECIFIED), Ipv6Addr::UNSPECIFIED.into()] {
            let none = SocketAddr::new(any, 0);
            let flags = (libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16;
            let request = Request {
                kind: SOCK_DIAG_BY_FAMILY,
                flags,
                extensions,
                states,
                ends: (none, none),
                cookie: ANY,
            };
            self.socket.send(&request.bytes(more))?;
            for _ in 0..MOST_ANSWERS {
                let length = (&self.socket).read(&mut answer)?;
                // A kernel without IPv6 has nobody to answer for it.
                if length == 0 || absent(read(&answer[..length], &mut visit))?.unwrap_or(true) {
                    break;
                }
            }
        }
        Ok(())
    }

    /// The cookie of the socket that is bound to `local` and connected to `remote`.
    pub fn find(&self, local: SocketAddr, remote: SocketAddr) -> io::Result<Option<u64>> {
        let flags = libc::NLM_F_REQUEST as u16;
        self.ask(SOCK_DIAG_BY_FAMILY, flags, (local, remote), ANY, |answer| {
            let mut cookie = None;
            let seen = read(answer, &mut |found| {
                cookie = Some(found.cookie).filter(|_| found.state != state::LISTEN);
            });
            absent(seen.map(|_| ())).map(|_| cookie)
        })
    }

    /// Destroys the socket that is bound to `local`, is connected to `remote` and has this cookie: its peer sees a reset, its
    /// owner `ECONNABORTED`. `false` when there is no such socket (any more).
    pub fn destroy(&self, local: SocketAddr, remote: SocketAddr, cookie: u64) -> io::Result<bool> {
        let flags = (libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16;
        let acknowledged = |answer: &[u8]| absent(read(answer, &mut |_| {}).map(|_| ()));
        Ok(self.ask(SOCK_DESTROY, flags, (local, remote), cookie, acknowledged)?.is_some())
    }

    /// Sends a request for each form of the addresses, until `read` finds something in an answer.
    fn ask<T>(
        &self,
        kind: u16,
        flags: u16,
        (local, remote): (SocketAddr, SocketAddr),
        cookie: u64,
        read: impl Fn(&[u8]) -> io::Result<Option<T>>,
    ) -> io::Result<Option<T>> {
        // An IPv4 connection of a dual-stack socket is filed under either family, as the socket was made.
        for mapped in [false, true] {
            let (Some(local), Some(remote)) = (as_family(local, mapped), as_family(remote, mapped)) else {
                continue;
            };
            let request =
                Request { kind, flags, extensions: 0, states: state::ALL, ends: (local, remote), cookie };
            self.socket.send(&request.bytes(&[]))?;
            let mut answer = [0_u8; 512];
            let length = (&self.socket).read(&mut answer)?;
            if let Some(found) = read(&answer[..length])? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

/// Tells "there is none" (none at these addresses, or another one by now) from what went wrong.
fn absent<T>(done: io::Result<T>) -> io::Result<Option<T>> {
    match done {
        Ok(done) => Ok(Some(done)),
        Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ESTALE)) => Ok(None),
        Err(e) => Err(e),
    }
}

/// The address as it stands, or mapped into IPv6 where that makes a difference.
fn as_family(at: SocketAddr, mapped: bool) -> Option<SocketAddr> {
    match (mapped, at.ip()) {
        (false, _) => Some(at),
        (true, IpAddr::V4(v4)) => Some(SocketAddr::new(v4.to_ipv6_mapped().into(), at.port())),
        (true, IpAddr::V6(_)) => None,
    }
}

/// A question: `nlmsghdr`, then `inet_diag_req_v2`.
struct Request {
    kind: u16,
    flags: u16,
    extensions: u8,
    states: u32,
    ends: (SocketAddr, SocketAddr),
    cookie: u64,
}

impl Request {
    fn bytes(&self, more: &[u8]) -> Vec<u8> {
        let (local, remote) = self.ends;
        let family = if local.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
        let length = HEADER + REQUEST + more.len();
        let mut message = Vec::with_capacity(length);
        message.extend((length as u32).to_ne_bytes());
        message.extend(self.kind.to_ne_bytes());
        message.extend(self.flags.to_ne_bytes());
        // Sequence number and port: one question, one answer, nobody to mix them up with.
        message.extend([0; 8]);
        message.extend([family as u8, libc::IPPROTO_TCP as u8, self.extensions, 0]);
        message.extend(self.states.to_ne_bytes());
        message.extend(local.port().to_be_bytes());
        message.extend(remote.port().to_be_bytes());
        message.extend(octets(local.ip()));
        message.extend(octets(remote.ip()));
        // Any interface.
        message.extend([0; 4]);
        message.extend((self.cookie as u32).to_ne_bytes());
        message.extend(((self.cookie >> 32) as u32).to_ne_bytes());
        message.extend(more);
        message
    }
}

/// The address in 16 bytes, an IPv4 one in the first four.
fn octets(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V6(v6) => v6.octets(),
        IpAddr::V4(v4) => {
            let mut all = [0; 16];
            all[..4].copy_from_slice(&v4.octets());
            all
        }
    }
}

/// Reads one datagram of messages; true when it ends the answer. An acknowledgement is an error without a number.
fn read(mut bytes: &[u8], visit: &mut impl FnMut(&Found<'_>)) -> io::Result<bool> {
    while bytes.len() >= HEADER {
        let length = u32_at(bytes, 0).unwrap_or(0) as usize;
        if length < HEADER || length > bytes.len() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a message of impossible length"));
        }
        let (message, rest) = bytes.split_at(length);
        match u16_at(message, 4) {
            Some(NLMSG_DONE) => return Ok(true),
            Some(NLMSG_ERROR) => {
                return match u32_at(message, HEADER).map_or(libc::EPROTO, |n| n.cast_signed().wrapping_neg())
                {
                    0 => Ok(true),
                    errno => Err(Errno::from_raw(errno).into()),
                };
            }
            Some(SOCK_DIAG_BY_FAMILY) => {
                if let Some(found) = socket(&message[HEADER..]) {
                    visit(&found);
                }
            }
            _ => {}
        }
        bytes = rest.get((length.next_multiple_of(4) - length).min(rest.len())..).unwrap_or_default();
    }
    Ok(false)
}

/// Reads an `inet_diag_msg` and finds what is behind it.
fn socket(message: &[u8]) -> Option<Found<'_>> {
    let end = |port: usize, address: usize| {
        let octets: [u8; 16] = message.get(address..address + 16)?.try_into().ok()?;
        let ip = if i32::from(message[0]) == libc::AF_INET {
            IpAddr::from([octets[0], octets[1], octets[2], octets[3]])
        } else {
            IpAddr::from(octets).to_canonical()
        };
        Some(SocketAddr::new(ip, u16::from_be_bytes(message.get(port..port + 2)?.try_into().ok()?)))
    };
    Some(Found {
        state: *message.get(1)?,
        local: end(4, 8)?,
        remote: end(6, 24)?,
        cookie: u64::from(u32_at(message, 44)?) | u64::from(u32_at(message, 48)?) << 32,
        inode: u32_at(message, 68)?,
        attributes: message.get(MESSAGE..)?,
    })
}

/// The content of the first attribute of a kind.
pub fn attribute(mut bytes: &[u8], wanted: u16) -> Option<&[u8]> {
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

/// The number at a place of a message, in the machine's own order.
pub fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// The same of four bytes.
pub fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// The same of eight.
pub fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests;
