//! What happens to connections, as it happens.
#![allow(unsafe_code)]

use super::{Flow, Kernel, KernelError, maps, pins::Pins, turn::Turn};
use aya::maps::{MapData, RingBuf};
use std::{io, time::Duration};
use tokio::{
    io::unix::AsyncFd,
    time::{sleep, timeout},
};
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

/// The reader of the ring buffer. There is one at a time: two would take each other's events. A second one, such as that of
/// an agent that takes over, begins where the first one ends.
pub struct Events {
    pins: Pins,
    turn: Turn,
    /// Opened when it is this reader's turn: it goes on from where the one before has got to by then.
    ring: Option<AsyncFd<RingBuf<MapData>>>,
}

impl Kernel {
    /// The reader of events.
    pub fn events(&self) -> Result<Events, KernelError> {
        Ok(Events { pins: self.pins.clone(), turn: Turn::of(&self.pins.maps())?, ring: None })
    }
}

impl Events {
    /// Waits until it is this reader's turn: until the one before is gone. Must be called within a tokio runtime.
    pub async fn begin(&mut self) -> io::Result<()> {
        self.ring().await.map(drop)
    }

    /// Waits until something happens and appends it to `into`, up to a batch. Dropping the future loses nothing. Must be called
    /// within a tokio runtime.
    pub async fn next(&mut self, into: &mut Vec<Event>) -> io::Result<()> {
        let ring = self.ring().await?;
        loop {
            if take(ring.get_mut(), into) > 0 {
                return Ok(());
            }
            if let Ok(ready) = timeout(POLL, ring.readable_mut()).await {
                ready?.clear_ready();
            }
        }
    }

    async fn ring(&mut self) -> io::Result<&mut AsyncFd<RingBuf<MapData>>> {
        while !self.turn.take() {
            sleep(POLL).await;
        }
        let ring = match self.ring.take() {
            Some(ring) => ring,
            None => {
                let ring = maps::open::<RingBuf<_>>(&self.pins, "EVENTS").map_err(io::Error::other)?;
                // SAFETY: the ring owns its descriptor, which stays open and the same until the ring is dropped.
                unsafe { AsyncFd::register(ring) }?
            }
        };
        Ok(self.ring.insert(ring))
    }
}

/// Takes what is there, without waiting; answers how many events that were.
fn take(ring: &mut RingBuf<MapData>, into: &mut Vec<Event>) -> usize {
    let before = into.len();
    for _ in 0..BATCH {
        let Some(item) = ring.next() else { break };
        into.extend(parse(&item));
    }
    into.len() - before
}

/// `None` for an entry that this agent does not know.
fn parse(bytes: &[u8]) -> Option<Event> {
    Event::from_abi(&maps::read(bytes)?)
}
