//! The keeper's one loop.

use super::{
    EXIT_CONFIG, EXIT_FAILED,
    door::{Claim, Door, Predecessor},
    wire::{self, Message},
};
use nix::sys::{
    signal::{SigSet, Signal},
    signalfd::{SfdFlags, SignalFd},
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    net::{AddressFamily, SocketFlags, SocketType, socketpair},
};
use std::{
    collections::BTreeMap,
    ffi::OsString,
    io,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

/// A worker that lived at least this long did not fail at its start.
const HEALTHY: Duration = Duration::from_secs(2);
/// The longest pause before a worker that keeps failing is started again.
const MAX_PAUSE: Duration = Duration::from_secs(5);
/// The pause before a successor that could not be let in is tried again; nothing else is heard meanwhile.
const DOOR_PAUSE: Duration = Duration::from_millis(100);

/// What the keeper starts with.
pub struct Start {
    /// Where successors knock.
    pub door: PathBuf,
    /// The arguments of the worker process.
    pub worker_args: Vec<OsString>,
    /// The socket of a worker that runs already and has lost its keeper.
    pub adopt: Option<OwnedFd>,
    /// Once relieved by a successor, wait to be told to go: whoever starts us again when we end would have us take
    /// everything back.
    pub stay: bool,
}

/// Keeps listeners and a worker until the worker exits on purpose; returns its exit code.
pub fn run(start: Start) -> io::Result<ExitCode> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGINT);
    signals.thread_block()?;
    let signals = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC)?;

    let predecessor = if start.adopt.is_some() { None } else { Predecessor::find(&start.door)? };
    let held = match &predecessor {
        Some(predecessor) => predecessor.listeners()?,
        None => BTreeMap::new(),
    };
    let served = start.adopt.is_some();
    let (door, guest) = match served {
        true => claim(&start.door)?,
        false => (Some(Door::open(&start.door)?), None),
    };
    let worker = match start.adopt {
        Some(socket) => Worker { socket, child: None, since: Instant::now() },
        None => Worker::start(&start.worker_args)?,
    };
    let keeper = Keeper {
        held,
        predecessor,
        door,
        path: start.door,
        guest,
        served,
        worker: Some(worker),
        args: start.worker_args,
        leaving: false,
        relieved: false,
        failures: 0,
    };
    let (code, relieved) = keeper.serve(&signals)?;
    if relieved && start.stay {
        // Nothing is held any more; the signal is all that is left to come.
        signals.read_signal()?;
    }
    Ok(code)
}

struct Keeper {
    held: BTreeMap<String, OwnedFd>,
    /// Told to retire as soon as our worker accepts.
    predecessor: Option<Predecessor>,
    door: Option<Door>,
    path: PathBuf,
    /// A successor that has asked for the listeners, or was told of us; others wait at the door until it has taken over or
    /// failed.
    guest: Option<OwnedFd>,
    /// None between the death of one and the start of the next.
    worker: Option<Worker>,
    args: Vec<OsString>,
    /// The worker was told to go, or said that it goes.
    leaving: bool,
    /// A successor serves in our place.
    relieved: bool,
    /// A worker has served with these listeners: from here on there is something to lose by giving them up.
    served: bool,
    /// Workers that died early, in a row.
    failures: u32,
}

/// Who has something to say.
#[derive(Clone, Copy)]
enum Event {
    Signal,
    Worker,
    Door,
    Guest,
}

impl Keeper {
    fn serve(mut self, signals: &SignalFd) -> io::Result<(ExitCode, bool)> {
        let mut restart_at = Instant::now();
        loop {
            if self.worker.is_none() && Instant::now() >= restart_at {
                match Worker::start(&self.args) {
                    Ok(worker) => self.worker = Some(worker),
                    Err(error) => {
                        eprintln!("weft-agent: the worker cannot be started, trying again: {error}");
                        restart_at = Instant::now() + MAX_PAUSE;
                    }
                }
            }
            let pause = self.worker.is_none().then(|| restart_at.saturating_duration_since(Instant::now()));
            for event in self.wait(signals, pause)? {
                match event {
                    Event::Signal => {
                        let _ = signals.read_signal();
                        // Told to go while it drains for a successor: there is nothing to wait for afterwards.
                        self.relieved = false;
                        self.leave();
                        if self.worker.is_none() {
                            return Ok(self.close(ExitCode::SUCCESS));
                        }
                    }
                    Event::Door => self.let_in(),
                    Event::Guest => self.hear_guest(),
                    Event::Worker => {
                        let Some(worker) = &self.worker else { continue };
                        if let Ok(Some((message, listener))) = wire::receive(&worker.socket) {
                            self.hear_worker(message, listener);
                            continue;
                        }
                        match self.bury() {
                            Some(code) => return Ok(self.close(code)),
                            None => restart_at = Instant::now() + self.pause(),
                        }
                    }
                }
            }
        }
    }

    /// Waits for events, at most `pause` long.
    fn wait(&self, signals: &SignalFd, pause: Option<Duration>) -> io::Result<Vec<Event>> {
        let worker = self.worker.as_ref().map(|w| (Event::Worker, w.socket.as_fd()));
        // One hand-over at a time: two successors of one agent would know nothing of each other.
        let door = self.door.as_ref().filter(|_| self.guest.is_none());
        let door = door.map(|d| (Event::Door, d.socket.as_fd()));
        let guest = self.guest.as_ref().map(|g| (Event::Guest, g.as_fd()));
        let sources: Vec<_> =
            [Some((Event::Signal, signals.as_fd())), worker, door, guest].into_iter().flatten().collect();
        let mut fds: Vec<_> =
            sources.iter().map(|(_, fd)| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
        let timeout = pause.and_then(|p| Timespec::try_from(p).ok());
        rustix::io::retry_on_intr(|| poll(&mut fds, timeout.as_ref()))?;
        let ready = sources.iter().zip(&fds).filter(|(_, fd)| !fd.revents().is_empty());
        Ok(ready.map(|((event, _), _)| *event).collect())
    }

    fn hear_worker(&mut self, message: Message, listener: Option<OwnedFd>) {
        match (message, listener) {
            (Message::Hold(name), Some(listener)) => {
                self.held.insert(name, listener);
            }
            (Message::Release(name), _) => {
                self.held.remove(&name);
            }
            (Message::List, _) => {
                if let Some(worker) = &self.worker {
                    send_all(&worker.socket, &self.held);
                }
            }
            (Message::Ready, _) => {
                self.served = true;
                self.retire_predecessor();
            }
            (Message::Bye, _) => self.leaving = true,
            _ => {}
        }
    }

    fn retire_predecessor(&mut self) {
        if let Some(predecessor) = self.predecessor.take()
            && let Err(error) = predecessor.retire()
        {
            eprintln!("weft-agent: cannot tell the agent before this one to retire: {error}");
        }
    }

    fn let_in(&mut self) {
        match self.door.as_ref().map(Door::accept) {
            Some(Ok(guest)) => self.guest = Some(guest),
            // Too many open files, as a rule: it waits at the door, and knocks on.
            Some(Err(_)) => std::thread::sleep(DOOR_PAUSE),
            None => {}
        }
    }

    fn hear_guest(&mut self) {
        let Some(guest) = &self.guest else { return };
        match wire::receive(guest) {
            Ok(Some((Message::List, _))) => send_all(guest, &self.held),
            Ok(Some((Message::Drain, _))) => {
                self.guest = None;
                // The path belongs to the successor by now, so the door is dropped, not closed.
                self.door = None;
                // Who was still to be followed when we were followed ourselves: nobody else knows of it.
                self.retire_predecessor();
                self.relieved = true;
                self.leave();
            }
            Ok(Some((Message::Before, _))) => {
                // Whom we followed is gone, and had not told it to retire.
                self.predecessor = self.guest.take().map(Predecessor::at_our_door);
                if self.served {
                    self.retire_predecessor();
                }
            }
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => {
                // A successor that failed before it was ready. It has put its own door in the place of ours, as a rule, and
                // somebody else may have come to that one by now, to follow it.
                self.guest = None;
                if self.door.as_ref().is_some_and(Door::is_in_place) {
                    return;
                }
                match claim(&self.path) {
                    Ok((door, guest)) => (self.door, self.guest) = (door, guest),
                    Err(error) => {
                        eprintln!("weft-agent: no other agent can take over from this one: {error}");
                        self.door = None;
                    }
                }
            }
        }
    }

    /// Asks the worker to finish.
    fn leave(&mut self) {
        self.leaving = true;
        if let Some(worker) = &self.worker {
            // A worker that cannot be told is gone, and its end is seen next.
            let _ = wire::send(&worker.socket, &Message::Drain, None);
        }
    }

    /// Takes note of the worker's end; the exit code if it was the last one.
    fn bury(&mut self) -> Option<ExitCode> {
        let mut worker = self.worker.take()?;
        let status = worker.child.as_mut().and_then(|c| c.wait().ok());
        let code = status.and_then(|s| s.code()).and_then(|c| u8::try_from(c).ok());
        if self.leaving || gives_up(self.served, code) {
            return Some(code.map_or(ExitCode::SUCCESS, ExitCode::from));
        }
        self.failures = if worker.since.elapsed() >= HEALTHY { 0 } else { self.failures + 1 };
        let how = status.map_or_else(|| "is gone".into(), |s| format!("ended ({s})"));
        eprintln!("weft-agent: the worker {how}; starting another, {} listeners kept", self.held.len());
        None
    }

    /// None after a crash, longer each time for a worker that dies as soon as it starts.
    fn pause(&self) -> Duration {
        match self.failures {
            0 | 1 => Duration::ZERO,
            n => Duration::from_millis(100).saturating_mul(1 << n.min(10)).min(MAX_PAUSE),
        }
    }

    fn close(self, code: ExitCode) -> (ExitCode, bool) {
        if let Some(door) = self.door {
            door.close();
        }
        (code, self.relieved)
    }
}

/// The door at the path, or the successor that has it.
fn claim(path: &Path) -> io::Result<(Option<Door>, Option<OwnedFd>)> {
    Ok(match Door::claim(path)? {
        Claim::Ours(door) => (Some(door), None),
        Claim::Theirs(successor) => (None, Some(successor)),
    })
}

/// Whether there is no use in another worker after one that ended with `code`: one that finds fault at the first start
/// tells whoever started us. Where pods are served already, what lacks may come back, and the pods wait for it.
fn gives_up(served: bool, code: Option<u8>) -> bool {
    !served && matches!(code, Some(EXIT_CONFIG | EXIT_FAILED))
}

struct Worker {
    socket: OwnedFd,
    /// None for one that another keeper started.
    child: Option<Child>,
    since: Instant,
}

impl Worker {
    /// Starts the worker; it finds its end of the socket pair as its standard input.
    fn start(args: &[OsString]) -> io::Result<Self> {
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        let program = std::env::current_exe()?;
        let child = Command::new(program).args(args).stdin(Stdio::from(theirs)).spawn()?;
        Ok(Self { socket: ours, child: Some(child), since: Instant::now() })
    }
}

fn send_all(to: &OwnedFd, held: &BTreeMap<String, OwnedFd>) {
    for (name, listener) in held {
        if wire::send(to, &Message::Hold(name.clone()), Some(listener.as_fd())).is_err() {
            return;
        }
    }
    // Who is gone by now does not need the end of the list.
    let _ = wire::send(to, &Message::End, None);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_first_start_that_finds_fault_gives_the_listeners_up() {
        assert!(gives_up(false, Some(EXIT_CONFIG)) && gives_up(false, Some(EXIT_FAILED)));
        assert!(!gives_up(false, Some(101)) && !gives_up(false, None), "a panic, a signal: a crash");
        for code in [Some(EXIT_CONFIG), Some(EXIT_FAILED), Some(101), None] {
            assert!(!gives_up(true, code));
        }
    }
}
