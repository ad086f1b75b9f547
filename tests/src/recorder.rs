//! A TCP proxy that keeps what goes through it: what a capture is where nobody may capture.

use crate::wire::{Direction, Stream, Wire};
use anyhow::{Context, Result};
use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
};

/// What was kept so far.
#[derive(Debug, Default)]
struct Kept {
    streams: BTreeMap<Direction, Stream>,
    reads: u64,
}

/// Any number of ways, each from a listener of ours to somebody else's, with one memory.
#[derive(Clone, Debug, Default)]
pub struct Recorder {
    kept: Arc<Mutex<Kept>>,
}

impl Recorder {
    /// Accepts at `from` and carries on to `to`, until the process ends.
    pub fn carry(&self, from: TcpListener, to: SocketAddr) {
        let recorder = self.clone();
        thread::spawn(move || {
            while let Ok((client, _)) = from.accept() {
                let recorder = recorder.clone();
                // A connection that cannot be carried is reset by being dropped; the claim that needed it will say so.
                thread::spawn(move || recorder.connection(client, to));
            }
        });
    }

    /// What has gone through since the last call.
    pub fn take(&self) -> Wire {
        let Kept { streams, reads } = std::mem::take(&mut *self.locked());
        Wire::kept(streams, reads)
    }

    fn connection(&self, client: TcpStream, to: SocketAddr) -> Result<()> {
        let server = TcpStream::connect(to).with_context(|| format!("cannot connect to {to}"))?;
        let there = Direction { from: client.peer_addr()?, to: client.local_addr()? };
        let (reader, writer) = (client.try_clone()?, server.try_clone()?);
        let recorder = self.clone();
        let up = thread::spawn(move || recorder.pump(reader, writer, there));
        self.pump(server, client, there.reversed())?;
        up.join().map_err(|_| anyhow::anyhow!("a thread panicked"))??;
        Ok(())
    }

    /// Keeps bytes before it passes them on, so that nothing has arrived that was not kept.
    fn pump(&self, mut from: TcpStream, mut to: TcpStream, direction: Direction) -> io::Result<()> {
        let mut chunk = [0; 16 << 10];
        loop {
            let length = from.read(&mut chunk)?;
            if length == 0 {
                return to.shutdown(Shutdown::Write);
            }
            {
                let mut kept = self.locked();
                kept.reads += 1;
                kept.streams.entry(direction).or_default().payload.extend_from_slice(&chunk[..length]);
            }
            to.write_all(&chunk[..length])?;
        }
    }

    fn locked(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_directions_pass_and_are_kept() {
        let listen = || TcpListener::bind("127.0.0.1:0").unwrap();
        let (server, proxy) = (listen(), listen());
        let (to, at) = (server.local_addr().unwrap(), proxy.local_addr().unwrap());
        let recorder = Recorder::default();
        recorder.carry(proxy, to);
        let answering = thread::spawn(move || {
            let (mut client, _) = server.accept().unwrap();
            let mut asked = String::new();
            client.read_to_string(&mut asked).unwrap();
            client.write_all(format!("{asked} and back").as_bytes()).unwrap();
        });
        let mut client = TcpStream::connect(at).unwrap();
        client.write_all(b"there").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        answering.join().unwrap();
        assert_eq!(answer, "there and back");
        let wire = recorder.take();
        let there = Direction { from: client.local_addr().unwrap(), to: at };
        assert_eq!(wire.streams[&there].payload, b"there");
        assert_eq!(wire.streams[&there.reversed()].payload, b"there and back");
        assert!(recorder.take().streams.is_empty());
    }
}
