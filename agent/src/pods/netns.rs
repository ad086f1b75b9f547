//! Network namespaces: a pod is one, and what the agent does inside it happens through here.

use crate::kernel::netns_cookie;
use nix::sched::{CloneFlags, setns};
use std::{
    cell::OnceCell,
    fs::File,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};

/// An open network namespace. It stays valid (and keeps the namespace alive) even when its path goes away.
#[derive(Debug)]
pub struct Netns {
    /// None for the agent's own one, which needs no entering (and no right to).
    fd: Option<OwnedFd>,
    cookie: u64,
}

thread_local! {
    /// The namespace this thread belongs to, opened before it first enters another.
    static HOME: OnceCell<File> = const { OnceCell::new() };
}

impl Netns {
    /// Opens the namespace at `path`, such as `/run/netns/web` or `/proc/123/ns/net`.
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::of(File::open(path)?.into())
    }

    /// The namespace that `fd` is.
    pub fn of(fd: OwnedFd) -> io::Result<Self> {
        let probe =
            within(fd.as_fd(), || socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::DGRAM, None))?;
        let cookie = netns_cookie(probe)?;
        Ok(Self { fd: Some(fd), cookie })
    }

    /// The same namespace, open once more.
    pub fn try_clone(&self) -> io::Result<Self> {
        let fd = self.fd.as_ref().map(OwnedFd::try_clone).transpose()?;
        Ok(Self { fd, cookie: self.cookie })
    }

    /// The namespace that the agent itself is in.
    pub fn own() -> io::Result<Self> {
        let probe = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::DGRAM, None)?;
        Ok(Self { fd: None, cookie: netns_cookie(probe)? })
    }

    /// The namespace as the kernel wants it; none for the agent's own.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.fd.as_ref().map(AsFd::as_fd)
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
        match &self.fd {
            Some(fd) => within(fd.as_fd(), work),
            None => work(),
        }
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
        let home = match home.get() {
            Some(home) => home,
            // Without a file left it is tried again the next time: a thread must not be of no use for ever.
            None => {
                let opened = File::open("/proc/thread-self/ns/net")?;
                home.get_or_init(|| opened)
            }
        };
        setns(netns, CloneFlags::CLONE_NEWNET)?;
        let _return = Return(home);
        work()
    })
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
