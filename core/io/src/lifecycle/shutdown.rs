//! Being told to go by the operating system.

use std::{fmt, io};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Which signal told the process to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// SIGTERM: an orderly stop.
    Terminate,
    /// SIGINT: someone pressed Ctrl-C.
    Interrupt,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Cause::Terminate => "SIGTERM",
            Cause::Interrupt => "SIGINT",
        })
    }
}

/// Listens for SIGTERM and SIGINT from its creation on.
#[derive(Debug)]
pub struct Shutdown {
    terminate: Signal,
    interrupt: Signal,
}

impl Shutdown {
    /// Takes both signals over from their default action; needs a Tokio runtime.
    pub fn listen() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for the next signal; a second call waits for a second one, which is how impatience is heard.
    pub async fn requested(&mut self) -> Cause {
        tokio::select! {
            _ = self.terminate.recv() => Cause::Terminate,
            _ = self.interrupt.recv() => Cause::Interrupt,
        }
    }
}
