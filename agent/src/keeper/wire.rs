//! What the keeper and its workers say to each other: one short line a packet, a listener with some of them.

use rustix::{
    io::{Errno, retry_on_intr},
    net::{
        RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
        SendFlags, recvmsg, sendmsg,
    },
};
use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

/// The longest packet, in bytes.
const MAX: usize = 256;

/// One packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Keep this listener (it travels along) under this name.
    Hold(String),
    /// Close the listener of this name.
    Release(String),
    /// Send every listener that is held.
    List,
    /// The answer to [`Message::List`] is complete.
    End,
    /// The worker accepts connections.
    Ready,
    /// The worker is about to exit on purpose: do not start another.
    Bye,
    /// From an agent that serves, to the one at the door: the agent between us is gone, so it is me whom you follow.
    Before,
    /// To the worker: stop accepting, finish what is open, exit. From a successor: tell your worker so.
    Drain,
}

impl Message {
    /// The packet that says it.
    pub fn encode(&self) -> String {
        match self {
            Self::Hold(name) => format!("hold {name}"),
            Self::Release(name) => format!("release {name}"),
            Self::List => "list".into(),
            Self::End => "end".into(),
            Self::Ready => "ready".into(),
            Self::Bye => "bye".into(),
            Self::Before => "before".into(),
            Self::Drain => "drain".into(),
        }
    }

    /// What a packet says; `None` when that is nothing known here.
    pub fn decode(packet: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(packet).ok()?;
        Some(match text.split_once(' ') {
            Some(("hold", name)) => Self::Hold(name.into()),
            Some(("release", name)) => Self::Release(name.into()),
            None if text == "list" => Self::List,
            None if text == "end" => Self::End,
            None if text == "ready" => Self::Ready,
            None if text == "bye" => Self::Bye,
            None if text == "before" => Self::Before,
            None if text == "drain" => Self::Drain,
            _ => return None,
        })
    }
}

/// Sends one packet, with a listener or without.
pub fn send(socket: impl AsFd, message: &Message, listener: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let text = message.encode();
    let fds: [BorrowedFd<'_>; 1];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if let Some(fd) = listener {
        fds = [fd];
        control.push(SendAncillaryMessage::ScmRights(&fds));
    }
    // A peer that is gone is an error to report, not a signal to die of.
    retry_on_intr(|| sendmsg(&socket, &[IoSlice::new(text.as_bytes())], &mut control, SendFlags::NOSIGNAL))?;
    Ok(())
}

/// Waits for one packet; `None` when the peer is gone.
pub fn receive(socket: impl AsFd) -> io::Result<Option<(Message, Option<OwnedFd>)>> {
    let mut packet = [0u8; MAX];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = retry_on_intr(|| {
        recvmsg(&socket, &mut [IoSliceMut::new(&mut packet)], &mut control, RecvFlags::CMSG_CLOEXEC)
    });
    let len = match received {
        Ok(received) => received.bytes,
        Err(Errno::CONNRESET) => 0,
        Err(errno) => return Err(errno.into()),
    };
    if len == 0 {
        return Ok(None);
    }
    let listener = control.drain().find_map(|m| match m {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    match Message::decode(&packet[..len]) {
        Some(message) => Ok(Some((message, listener))),
        None => Err(io::Error::new(io::ErrorKind::InvalidData, "not a keeper's message")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    use std::net::TcpListener;

    #[test]
    fn messages_round_trip_with_their_listener() {
        let (a, b) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let hold = Message::Hold("7/hbone/0".into());
        send(&a, &hold, Some(listener.as_fd())).unwrap();
        drop(listener);
        let (message, fd) = receive(&b).unwrap().unwrap();
        assert_eq!(message, hold);
        // Still listening, though the first holder has closed it.
        assert_eq!(TcpListener::from(fd.unwrap()).local_addr().unwrap(), at);
        std::net::TcpStream::connect(at).unwrap_err();

        let bare =
            [Message::List, Message::End, Message::Ready, Message::Bye, Message::Before, Message::Drain];
        for message in bare {
            send(&a, &message, None).unwrap();
            assert_eq!(receive(&b).unwrap().unwrap().0, message);
        }
        drop(a);
        assert!(receive(&b).unwrap().is_none());
    }

    #[test]
    fn odd_packets_are_refused() {
        for packet in [&b""[..], b"hold", b"list all", b"\xff\xfe", b"Drain"] {
            assert_eq!(Message::decode(packet), None);
        }
    }
}
