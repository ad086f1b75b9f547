//! The Unix socket at which a successor asks for the listeners.

use super::wire::{self, Message};
use rustix::{
    io::Errno,
    net::{
        AddressFamily, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, connect, listen,
        socket_with, sockopt,
    },
};
use std::{
    collections::BTreeMap,
    io,
    os::{fd::OwnedFd, unix::fs::MetadataExt},
    path::{Path, PathBuf},
    time::Duration,
};

/// How long a predecessor may take for one answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where this keeper can be asked for its listeners.
pub struct Door {
    /// The listening socket.
    pub socket: OwnedFd,
    path: PathBuf,
    /// Device and inode of the socket's file, which a successor replaces.
    file: (u64, u64),
}

/// Who is at the path of a door that was ours, or is to be.
pub enum Claim {
    /// We are.
    Ours(Door),
    /// A living keeper: our successor, which was told so. It says when our time is over.
    Theirs(OwnedFd),
}

impl Door {
    /// Opens the door at `path`, in the place of whoever had it.
    pub fn open(path: &Path) -> io::Result<Self> {
        match std::fs::remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let socket = socket()?;
        bind(&socket, &SocketAddrUnix::new(path)?)?;
        // The umask may be generous; the listeners of every pod are not for everyone.
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
        listen(&socket, 4)?;
        Ok(Self { socket, path: path.to_owned(), file: file_of(path)? })
    }

    /// Opens the door at `path`, unless another living keeper has it. For an agent that serves already: whoever has come to
    /// that path since has come to follow, though perhaps somebody else, who is gone now.
    pub fn claim(path: &Path) -> io::Result<Claim> {
        match connect_to(path)? {
            Some(successor) => {
                wire::send(&successor, &Message::Before, None)?;
                Ok(Claim::Theirs(successor))
            }
            None => Self::open(path).map(Claim::Ours),
        }
    }

    /// Whether whoever knocks at the path comes to this door.
    pub fn is_in_place(&self) -> bool {
        file_of(&self.path).is_ok_and(|file| file == self.file)
    }

    /// Lets one successor in.
    pub fn accept(&self) -> io::Result<OwnedFd> {
        let guest = accept_with(&self.socket, SocketFlags::CLOEXEC)?;
        patient(&guest)?;
        Ok(guest)
    }

    /// Closes the door for good.
    pub fn close(self) {
        if self.is_in_place() {
            // Nobody can tell it from a stale one, and a stale one is replaced at the next start.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// The agent that serves now, to be followed by this one.
pub struct Predecessor {
    socket: OwnedFd,
}

impl Predecessor {
    /// Finds the keeper behind `path`, if there is a living one.
    pub fn find(path: &Path) -> io::Result<Option<Self>> {
        Ok(connect_to(path)?.map(|socket| Self { socket }))
    }

    /// The one that has come to our door and said [`Message::Before`].
    pub fn at_our_door(socket: OwnedFd) -> Self {
        Self { socket }
    }

    /// Copies of the listeners that it holds, by name.
    pub fn listeners(&self) -> io::Result<BTreeMap<String, OwnedFd>> {
        wire::send(&self.socket, &Message::List, None)?;
        receive_all(&self.socket)
    }

    /// Tells it that its time is over: its worker stops accepting, finishes what is open and exits.
    pub fn retire(self) -> io::Result<()> {
        wire::send(&self.socket, &Message::Drain, None)
    }
}

/// Receives the answer to [`Message::List`].
pub fn receive_all(socket: &OwnedFd) -> io::Result<BTreeMap<String, OwnedFd>> {
    let mut held = BTreeMap::new();
    loop {
        match wire::receive(socket)? {
            Some((Message::Hold(name), Some(listener))) => {
                held.insert(name, listener);
            }
            Some((Message::End, _)) => return Ok(held),
            Some(_) => {}
            None => return Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

/// Connects to the living keeper behind `path`, if there is one.
fn connect_to(path: &Path) -> io::Result<Option<OwnedFd>> {
    let socket = socket()?;
    patient(&socket)?;
    match connect(&socket, &SocketAddrUnix::new(path)?) {
        Ok(()) => Ok(Some(socket)),
        Err(Errno::NOENT | Errno::CONNREFUSED) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

fn file_of(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = std::fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

fn socket() -> io::Result<OwnedFd> {
    Ok(socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

/// A peer that neither reads nor writes must not stop the keeper.
fn patient(socket: &OwnedFd) -> io::Result<()> {
    sockopt::set_socket_timeout(socket, sockopt::Timeout::Recv, Some(PATIENCE))?;
    sockopt::set_socket_timeout(socket, sockopt::Timeout::Send, Some(PATIENCE))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        net::TcpListener,
        os::{fd::AsFd, unix::fs::PermissionsExt},
    };

    #[test]
    fn a_successor_gets_the_listeners_and_says_when_to_go() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keeper.sock");
        assert!(Predecessor::find(&path).unwrap().is_none());
        let door = Door::open(&path).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);

        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let successor = std::thread::spawn(move || {
            let predecessor = Predecessor::find(&path).unwrap().unwrap();
            let listeners = predecessor.listeners().unwrap();
            predecessor.retire().unwrap();
            listeners
        });
        let guest = door.accept().unwrap();
        assert_eq!(wire::receive(&guest).unwrap().unwrap().0, Message::List);
        wire::send(&guest, &Message::Hold("7/hbone/0".into()), Some(listener.as_fd())).unwrap();
        wire::send(&guest, &Message::End, None).unwrap();
        assert_eq!(wire::receive(&guest).unwrap().unwrap().0, Message::Drain);
        drop(listener);
        let mut listeners = successor.join().unwrap();
        let theirs = TcpListener::from(listeners.remove("7/hbone/0").unwrap());
        assert_eq!(theirs.local_addr().unwrap(), at);
    }

    #[test]
    fn a_stale_door_is_no_predecessor_and_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keeper.sock");
        drop(Door::open(&path).unwrap());
        assert!(path.exists());
        assert!(Predecessor::find(&path).unwrap().is_none());
        let door = Door::open(&path).unwrap();
        assert!(Predecessor::find(&path).unwrap().is_some());
        door.close();
        assert!(!path.exists());
    }

    #[test]
    fn a_door_that_was_replaced_is_its_successor_s_or_one_s_own_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keeper.sock");
        let ours = Door::open(&path).unwrap();
        let theirs = Door::open(&path).unwrap();
        assert!(!ours.is_in_place() && theirs.is_in_place());
        let Claim::Theirs(successor) = Door::claim(&path).unwrap() else { panic!("it is theirs") };
        let guest = theirs.accept().unwrap();
        assert_eq!(wire::receive(&guest).unwrap().unwrap().0, Message::Before);
        Predecessor::at_our_door(guest).retire().unwrap();
        assert_eq!(wire::receive(&successor).unwrap().unwrap().0, Message::Drain);
        ours.close();
        assert!(theirs.is_in_place(), "nobody closes another's door");
        drop(theirs);
        let Claim::Ours(again) = Door::claim(&path).unwrap() else { panic!("nobody lives there") };
        assert!(again.is_in_place());
    }
}
