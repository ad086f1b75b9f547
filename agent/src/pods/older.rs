//! Connections that a pod had before it came into the mesh: nothing protects them, and nothing judges them. Those that it
//! had before it left are the same from then on.

mod notes;

pub use notes::{Change, Note, Notes};

use super::Netns;
use crate::sock_diag::{SockDiag, state};
use rustc_hash::FxHashSet;
use serde::{Deserialize, Serialize};
use std::{fs, io, net::SocketAddr};

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
    /// Somebody listens in the pod at that port: it was asked for from outside.
    pub inbound: bool,
    /// The kernel's number for the pod's socket.
    pub cookie: u64,
    inode: u32,
}

/// What is closing by itself is let close.
const LIVE: [u8; 3] = [state::ESTABLISHED, state::SYN_SENT, state::CLOSE_WAIT];

/// The TCP connections of the namespace with others. What this process holds there is not the pod's.
pub fn open(netns: &Netns) -> io::Result<Vec<Open>> {
    let (mut all, mut listening) = (Vec::new(), FxHashSet::default());
    let diag = netns.enter(SockDiag::open)?;
    diag.each(state::only(&LIVE) | state::only(&[state::LISTEN]), 0, &[], |found| {
        if found.state == state::LISTEN {
            listening.insert(found.local.port());
            return;
        }
        let (local, remote) = (found.local, found.remote);
        all.push(Open { local, remote, inbound: false, cookie: found.cookie, inode: found.inode });
    })?;
    for one in &mut all {
        one.inbound = listening.contains(&one.local.port());
    }
    let mut with_others = with_others(all);
    if !with_others.is_empty() {
        let own = own_sockets()?;
        with_others.retain(|one| !own.contains(&one.inode));
    }
    Ok(with_others)
}

/// Leaves out what both ends of are in the namespace: the pod with itself, and what the agent delivers.
fn with_others(all: Vec<Open>) -> Vec<Open> {
    let ends: FxHashSet<(SocketAddr, SocketAddr)> = all.iter().map(|one| (one.local, one.remote)).collect();
    let is_with_others = |one: &Open| {
        let (local, remote) = (one.local.ip(), one.remote.ip());
        !local.is_loopback() && local != remote && !ends.contains(&(one.remote, one.local))
    };
    all.into_iter().filter(is_with_others).collect()
}

/// The inodes of the sockets that this process holds.
fn own_sockets() -> io::Result<FxHashSet<u32>> {
    let links = fs::read_dir("/proc/self/fd")?.flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
    Ok(links
        .filter_map(|link| link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok())
        .collect())
}

/// Those of the connections that `note` names and that live now.
pub fn live(netns: &Netns, note: &Note) -> io::Result<Vec<Open>> {
    let mut live = Vec::new();
    netns.enter(SockDiag::open)?.each(state::only(&LIVE), 0, &[], |found| {
        if let Some(inbound) = note.direction(found.cookie) {
            let (local, remote, inode) = (found.local, found.remote, found.inode);
            live.push(Open { local, remote, inbound, cookie: found.cookie, inode });
        }
    })?;
    Ok(live)
}

/// Resets connections; answers how many were still there. The first that cannot be reset ends it.
pub fn reset(netns: &Netns, open: &[Open]) -> io::Result<usize> {
    let diag = netns.enter(SockDiag::open)?;
    open.iter()
        .try_fold(0, |done, one| Ok(done + usize::from(diag.destroy(one.local, one.remote, one.cookie)?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        net::{TcpListener, TcpStream},
        path::Path,
    };

    fn one(local: &str, remote: &str) -> Open {
        let [local, remote] = [local, remote].map(|at| at.parse().unwrap());
        Open { local, remote, inbound: false, cookie: 1, inode: 2 }
    }

    #[test]
    fn what_the_pod_has_with_itself_or_by_the_agent_is_left_out() {
        let other = one("10.0.0.1:8080", "10.0.0.2:4000");
        let all = vec![
            other,
            one("127.0.0.1:80", "127.0.0.1:4000"),
            one("[::1]:80", "[::1]:4000"),
            one("10.0.0.1:5000", "10.0.0.1:80"),
            // Delivered: the application's end, and the agent's with the client's address.
            one("10.0.0.1:8080", "10.0.0.9:4000"),
            one("10.0.0.9:4000", "10.0.0.1:8080"),
        ];
        assert_eq!(with_others(all), [other]);
    }

    #[test]
    fn what_this_process_holds_is_its_own_and_what_is_noted_is_found_while_it_lives() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("skipped: needs root to enter a network namespace");
            return;
        }
        let netns = Netns::open(Path::new("/proc/self/ns/net")).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (local, remote) = (client.local_addr().unwrap(), client.peer_addr().unwrap());
        let cookie = rustix::net::sockopt::socket_cookie(&client).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let notes = Notes::new(dir.path());
        notes
            .write(7, Change::Joined, &[Open { cookie, inbound: true, ..one("10.0.0.1:1", "10.0.0.2:2") }])
            .unwrap();
        let note = notes.read(7).unwrap().unwrap();
        let found = live(&netns, &note).unwrap();
        assert_eq!(
            found.iter().map(|o| (o.local, o.remote, o.inbound)).collect::<Vec<_>>(),
            [(local, remote, true)]
        );
        assert!(own_sockets().unwrap().contains(&found[0].inode));
        assert_eq!(reset(&netns, &found).unwrap(), 1);
        assert_eq!(live(&netns, &note).unwrap(), []);
        assert_eq!(reset(&netns, &found).unwrap(), 0, "it is gone");
    }
}
