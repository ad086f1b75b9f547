//! The worker's side of the keeper.

use super::{
    door::receive_all,
    wire::{self, Message},
};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair, sockopt};
use std::{
    collections::BTreeMap,
    ffi::OsString,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    process::{Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
};
use tokio::sync::mpsc;

/// Speaks with the keeper; without one (a worker started by hand) it holds nothing and says so.
pub struct KeeperClient {
    /// Replaced when the keeper died and another was started.
    socket: Mutex<Option<OwnedFd>>,
    /// The arguments with which another keeper is started.
    args: Vec<OsString>,
}

/// What the keeper wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Stop accepting, finish, exit.
    Drain,
    /// The keeper is gone; another one runs in its place and holds nothing yet.
    Regrown,
    /// The keeper is gone and there is no other: the listeners end with this process.
    Alone,
}

impl KeeperClient {
    /// Finds the keeper at the standard input, where it puts its socket. `args` start another one if it dies.
    pub fn from_stdin(args: Vec<OsString>) -> Self {
        let stdin = io::stdin();
        let is_socket = sockopt::socket_domain(&stdin).is_ok_and(|d| d == AddressFamily::UNIX)
            && sockopt::socket_type(&stdin).is_ok_and(|t| t == SocketType::SEQPACKET);
        let socket = is_socket.then(|| stdin.as_fd().try_clone_to_owned().ok()).flatten();
        Self { socket: Mutex::new(socket), args }
    }

    /// The listeners that the keeper holds, by name. To be asked once, before [`KeeperClient::wishes`].
    pub fn listeners(&self) -> io::Result<BTreeMap<String, OwnedFd>> {
        match self.copy() {
            Some(socket) => {
                wire::send(&socket, &Message::List, None)?;
                receive_all(&socket)
            }
            None => Ok(BTreeMap::new()),
        }
    }

    /// Gives the keeper a copy of a listener.
    pub fn hold(&self, name: &impl ToString, listener: BorrowedFd<'_>) {
        self.tell(&Message::Hold(name.to_string()), Some(listener));
    }

    /// Lets the keeper close a listener.
    pub fn release(&self, name: &impl ToString) {
        self.tell(&Message::Release(name.to_string()), None);
    }

    /// Says that the worker accepts connections: an agent that served before can retire.
    pub fn ready(&self) {
        self.tell(&Message::Ready, None);
    }

    /// Says that the worker exits on purpose.
    pub fn bye(&self) {
        self.tell(&Message::Bye, None);
    }

    /// What the keeper wants, as it says so. A thread waits for it, since a packet socket has no asynchronous form;
    /// the channel ends where there is no keeper.
    pub fn wishes(self: &Arc<Self>) -> io::Result<mpsc::Receiver<Wish>> {
        let (tx, rx) = mpsc::channel(4);
        let client = self.clone();
        std::thread::Builder::new().name("keeper".into()).spawn(move || {
            while let Some(wish) = client.wait() {
                let last = wish == Wish::Alone;
                if tx.blocking_send(wish).is_err() || last {
                    return;
                }
            }
        })?;
        Ok(rx)
    }

    /// Blocks until the keeper wants something; `None` without a keeper.
    fn wait(&self) -> Option<Wish> {
        let socket = self.copy()?;
        loop {
            match wire::receive(&socket) {
                Ok(Some((Message::Drain, _))) => return Some(Wish::Drain),
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => return Some(self.regrow()),
            }
        }
    }

    /// Starts a keeper in the place of one that died; it adopts this process through its standard input.
    fn regrow(&self) -> Wish {
        let started = || -> io::Result<OwnedFd> {
            let (ours, theirs) =
                socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
            let program = std::env::current_exe()?;
            let mut keeper = Command::new(program).args(&self.args).stdin(Stdio::from(theirs)).spawn()?;
            // It outlives this process as a rule; if it does not, somebody must take note of its end.
            std::thread::Builder::new().name("keeper-wait".into()).spawn(move || keeper.wait())?;
            Ok(ours)
        };
        let (socket, wish) = match started() {
            Ok(socket) => (Some(socket), Wish::Regrown),
            Err(error) => {
                tracing::error!(%error, "the keeper is gone and cannot be started again");
                (None, Wish::Alone)
            }
        };
        *self.socket.lock().unwrap_or_else(PoisonError::into_inner) = socket;
        wish
    }

    fn tell(&self, message: &Message, listener: Option<BorrowedFd<'_>>) {
        let socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(socket) = &*socket
            && let Err(error) = wire::send(socket, message, listener)
        {
            // Its end is noticed by the thread that waits, which starts another one and tells it everything again.
            tracing::debug!(%error, ?message, "the keeper does not answer");
        }
    }

    fn copy(&self) -> Option<OwnedFd> {
        self.socket.lock().unwrap_or_else(PoisonError::into_inner).as_ref()?.try_clone().ok()
    }
}
