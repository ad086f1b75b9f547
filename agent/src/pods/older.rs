//! Connections that a pod had before it came into the mesh: nothing protects them, and nothing judges them.

use super::{
    Netns,
    destroy::{self, destroy},
};
use serde::{Deserialize, Serialize};
use socket2::{Domain, Protocol, Socket, Type};
use std::{
    io::{self, Read},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

/// What becomes of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Older {
    /// They go on as they are.
    #[default]
    Keep,
    /// They are reset; whoever connects again does so as the mesh has it.
    Reset,
}

/// A connection that is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Open {
    /// The pod's end.
    pub local: SocketAddr,
    /// The other one.
    pub remote: SocketAddr,
    cookie: u64,
}

/// The headers of an answer: `nlmsghdr`, then `inet_diag_msg`.
const HEADER: usize = 16;
const MESSAGE: usize = HEADER + 72;
/// `NLMSG_ERROR` and `NLMSG_DONE`.
const LAST: [u16; 2] = [2, 3];
/// The kernel's numbers of TCP states: established, SYN sent, close-wait. What is closing by itself is let close.
const LIVE: [u8; 3] = [1, 2, 8];
/// Datagrams of answers that are read; a pod with more connections than they hold is told of those.
const MOST_ANSWERS: usize = 4096;

/// The TCP connections of the namespace with others.
pub fn open(netns: &Netns) -> io::Result<Vec<Open>> {
    let mut found = Vec::new();
    for any in [IpAddr::from(Ipv4Addr::UNSPECIFIED), Ipv6Addr::UNSPECIFIED.into()] {
        let kind = Some(Protocol::from(libc::NETLINK_SOCK_DIAG));
        let netlink = netns.enter(|| Socket::new(Domain::from(libc::AF_NETLINK), Type::RAW, kind))?;
        netlink.set_read_timeout(Some(Duration::from_secs(1)))?;
        netlink.send(&destroy::dump(any))?;
        let mut answer = vec![0; 65_536];
        for _ in 0..MOST_ANSWERS {
            let length = (&netlink).read(&mut answer)?;
            if length == 0 || read(&answer[..length], &mut found) {
                break;
            }
        }
    }
    Ok(found)
}

/// Resets one; `false` when it has ended by itself.
pub fn reset(netns: &Netns, open: &Open) -> io::Result<bool> {
    destroy(netns, open.local, open.remote, open.cookie)
}

/// Reads one datagram; true when it ends the answer.
fn read(mut bytes: &[u8], into: &mut Vec<Open>) -> bool {
    while let Some(head) = bytes.first_chunk::<HEADER>() {
        let length = u32::from_ne_bytes([head[0], head[1], head[2], head[3]]) as usize;
        if LAST.contains(&u16::from_ne_bytes([head[4], head[5]])) || length < HEADER {
            return true;
        }
        let Some(message) = bytes.get(..length) else { return true };
        into.extend(
            connection(message).filter(|c| !c.local.ip().is_loopback() && c.local.ip() != c.remote.ip()),
        );
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    false
}

fn connection(message: &[u8]) -> Option<Open> {
    let message = message.first_chunk::<MESSAGE>()?;
    let (family, state) = (message[16], message[17]);
    if !LIVE.contains(&state) {
        return None;
    }
    let end = |port: usize, address: usize| {
        let octets: [u8; 16] = message[address..address + 16].try_into().ok()?;
        let ip = if i32::from(family) == libc::AF_INET {
            IpAddr::from([octets[0], octets[1], octets[2], octets[3]])
        } else {
            IpAddr::from(octets).to_canonical()
        };
        Some(SocketAddr::new(ip, u16::from_be_bytes([message[port], message[port + 1]])))
    };
    let cookie = u64::from_ne_bytes(message[60..68].try_into().ok()?);
    Some(Open { local: end(20, 24)?, remote: end(22, 40)?, cookie })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_answers_is_read_and_odd_bytes_are_passed_over() {
        let mut message = vec![0; MESSAGE];
        message[..4].copy_from_slice(&(MESSAGE as u32).to_ne_bytes());
        message[4..6].copy_from_slice(&20_u16.to_ne_bytes());
        (message[16], message[17]) = (libc::AF_INET as u8, 1);
        message[20..22].copy_from_slice(&8080_u16.to_be_bytes());
        message[22..24].copy_from_slice(&4000_u16.to_be_bytes());
        message[24..28].copy_from_slice(&[10, 0, 0, 1]);
        message[40..44].copy_from_slice(&[10, 0, 0, 2]);
        message[60..68].copy_from_slice(&7_u64.to_ne_bytes());
        let open = Open {
            local: "10.0.0.1:8080".parse().unwrap(),
            remote: "10.0.0.2:4000".parse().unwrap(),
            cookie: 7,
        };
        let mut found = Vec::new();
        assert!(!read(&message.repeat(2), &mut found));
        assert_eq!(found, [open, open]);
        message[17] = 10;
        found.clear();
        assert!(!read(&message, &mut found) && found.is_empty(), "a listener is no connection");
        message[17] = 1;
        message[24] = 127;
        assert!(!read(&message, &mut found) && found.is_empty(), "with itself");
        for end in 0..MESSAGE {
            read(&message[..end], &mut found);
        }
        assert!(found.is_empty());
    }
}
