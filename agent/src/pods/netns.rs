//! Network namespaces: a pod is one, and what the agent does inside it happens through here.
#![allow(unsafe_code)]

use nix::sched::{CloneFlags, setns};
use std::{
    fs::File,
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    path::Path,
};

/// An open network namespace. It stays valid (and keeps the namespace alive) even when its path goes away.
#[derive(Debug)]
pub struct Netns {
    fd: OwnedFd,
    cookie: u64,
}

thread_local! {
    /// The namespace this thread belongs to, opened before it first enters another.
    static HOME: io::Result<File> = File::open("/proc/thread-self/ns/net");
}

impl Netns {
    /// Opens the namespace at `path`, such as `/run/netns/web` or `/proc/123/ns/net`.
    pub fn open(path: &Path) -> io::Result<Self> {
        let fd = OwnedFd::from(File::open(path)?);
        let probe =
            within(fd.as_fd(), || socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::DGRAM, None))?;
        let cookie = netns_cookie(probe.as_fd())?;
        Ok(Self { fd, cookie })
    }

    /// The kernel's own number for this namespace, never used again for another one while the machine runs; BPF
    /// programs see the same number (`bpf_get_netns_cookie`).
    pub fn cookie(&self) -> u64 {
        self.cookie
    }

    /// Runs `work` with the calling thread inside the namespace. Sockets made there belong to it for good.
    ///
    /// `work` must not block for long and cannot await: the whole thread is inside meanwhile.
    pub fn enter<R>(&self, work: impl FnOnce() -> io::Result<R>) -> io::Result<R> {
        within(self.fd.as_fd(), work)
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Brings the thread home when it goes out of scope, also when the work inside panics.
struct Return<'a>(&'a File);

impl Drop for Return<'_> {
    fn drop(&mut self) {
        if let Err(error) = setns(self.0, CloneFlags::CLONE_NEWNET) {
            // A thread that stays behind would open every later socket in the wrong pod: nothing may go on like that.
            tracing::error!(%error, "cannot return from a pod's network namespace");
            std::process::abort();
        }
    }
}

fn within<R>(netns: BorrowedFd<'_>, work: impl FnOnce() -> io::Result<R>) -> io::Result<R> {
    HOME.with(|home| {
        let home =
            home.as_ref().map_err(|e| io::Error::new(e.kind(), "cannot open /proc/thread-self/ns/net"))?;
        setns(netns, CloneFlags::CLONE_NEWNET)?;
        let _return = Return(home);
        work()
    })
}

/// Linux's `SO_NETNS_COOKIE` (5.14), which libraries do not wrap yet.
const SO_NETNS_COOKIE: libc::c_int = 71;

fn netns_cookie(socket: BorrowedFd<'_>) -> io::Result<u64> {
    let mut cookie = 0u64;
    let mut len = size_of::<u64>() as libc::socklen_t;
    // SAFETY: the pointers are to live locals, and `len` says how much room `cookie` has.
    let done = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut len,
        )
    };
    if done == 0 { Ok(cookie) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_namespace_is_an_error() {
        assert!(Netns::open(Path::new("/nonexistent/netns")).is_err());
        assert!(Netns::open(Path::new("/dev/null")).is_err());
    }

    #[test]
    fn the_own_namespace_has_one_cookie() {
        // Entering a namespace needs CAP_SYS_ADMIN even when it is one's own.
        if !nix::unistd::geteuid().is_root() {
            eprintln!("skipped: needs root to enter a network namespace");
            return;
        }
        let a = Netns::open(Path::new("/proc/self/ns/net")).unwrap();
        let b = Netns::open(Path::new("/proc/thread-self/ns/net")).unwrap();
        assert_ne!(a.cookie(), 0);
        assert_eq!(a.cookie(), b.cookie());
    }
}
