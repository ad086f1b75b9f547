//! Lines that the programs log of each decision. Only programs of an agent that is built with `kernel-log` do.

use super::{Kernel, KernelError};
use std::{future::Future, time::Duration};

/// How often the lines are fetched.
const POLL: Duration = Duration::from_millis(100);

impl Kernel {
    /// Emits the programs' lines, at the level of each, until it is dropped. Of two agents on the same pins either may get a
    /// line.
    pub fn log(&mut self) -> Result<impl Future<Output = ()> + use<>, KernelError> {
        // Any copy of the object will do: they share the pinned ring buffer.
        let mut object = self.loader.load(0)?;
        // By way of the `log` crate, whose lines the subscriber of this process takes as its own.
        let mut lines = aya_log::EbpfLogger::init(&mut object).map_err(KernelError::Log)?;
        Ok(async move {
            let mut tick = tokio::time::interval(POLL);
            loop {
                tick.tick().await;
                lines.flush();
            }
        })
    }
}
