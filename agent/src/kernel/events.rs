//! What happens to connections, as it happens.
#![allow(unsafe_code)]

use super::{Flow, Kernel, KernelError, maps};
use aya::maps::{MapData, RingBuf};
use std::{io, time::Duration};
use tokio::{io::unix::AsyncFd, time::timeout};
use weft_ebpf_abi::{self as abi, event};

/// The kernel wakes the reader when much is waiting; otherwise it looks for itself, this often.
const POLL: Duration = Duration::from_millis(100);

/// Events that one call of [`Events::next`] hands out at most.
const BATCH: usize = 1024;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// A connection was established.
    Open,
    /// A connection ended, or could not be established.
    Close,
    /// A connection was refused by policy.
    Deny,
}

/// Something that happened to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// What.
    pub kind: EventKind,
    /// To which connection, with its figures at that instant.
    pub flow: Flow,
}

impl Event {
    fn from_abi(event: &abi::Event) -> Option<Self> {
        let kind = match event.kind {
            event::OPEN => EventKind::Open,
            event::CLOSE => EventKind::Close,
            event::DENY => EventKind::Deny,
            _ => return None,
        };
        Some(Self { kind, flow: Flow::from_abi(&event.flow)? })
    }
}

/// The reader of the ring buffer. One is enough: two would take each other's events.
pub struct Events {
    ring: AsyncFd<RingBuf<MapData>>,
}

impl Kernel {
    /// The reader of events. Must be called within a tokio runtime.
    pub fn events(&self) -> Result<Events, KernelError> {
        // SAFETY: the ring owns its descriptor, which stays open and the same until the ring is dropped.
        let ring = unsafe { AsyncFd::register(maps::ring(&self.pins)?) };
        Ok(Events { ring: ring.map_err(|e| KernelError::call("epoll_ctl")(e.into()))? })
    }
}

impl Events {
    /// Waits until something happens and appends it to `into`, up to a batch. Dropping the future loses nothing.
    pub async fn next(&mut self, into: &mut Vec<Event>) -> io::Result<()> {
        loop {
            if self.drain(into) > 0 {
                return Ok(());
            }
            if let Ok(ready) = timeout(POLL, self.ring.readable_mut()).await {
                ready?.clear_ready();
            }
        }
    }

    /// Takes what is there, without waiting; answers how many events that were.
    pub fn drain(&mut self, into: &mut Vec<Event>) -> usize {
        let before = into.len();
        let ring = self.ring.get_mut();
        for _ in 0..BATCH {
            let Some(item) = ring.next() else { break };
            into.extend(parse(&item));
        }
        into.len() - before
    }
}

/// `None` for an entry that this agent does not know.
fn parse(bytes: &[u8]) -> Option<Event> {
    Event::from_abi(&maps::read(bytes)?)
}
