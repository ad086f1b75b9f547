//! Readiness: a process is ready when nothing that it must do first is left.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// What is still to be done before the process may be called ready.
#[derive(Clone, Debug, Default)]
pub struct Ready {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    pending: Mutex<Vec<&'static str>>,
    done: Notify,
}

impl Shared {
    fn pending(&self) -> MutexGuard<'_, Vec<&'static str>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One thing to be done; dropping it says that it is.
#[derive(Debug)]
#[must_use = "dropping the guard says that its task is done"]
pub struct Guard {
    name: &'static str,
    shared: Arc<Shared>,
}

impl Ready {
    /// Nothing to be done yet: ready.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds something to be done first.
    pub fn task(&self, name: &'static str) -> Guard {
        self.shared.pending().push(name);
        Guard { name, shared: self.shared.clone() }
    }

    /// The names of what is left; empty means ready.
    pub fn pending(&self) -> Vec<&'static str> {
        self.shared.pending().clone()
    }

    /// Whether nothing is left.
    pub fn is_ready(&self) -> bool {
        self.shared.pending().is_empty()
    }

    /// Waits until nothing is left.
    pub async fn wait(&self) {
        loop {
            let done = self.shared.done.notified();
            if self.is_ready() {
                return;
            }
            done.await;
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let mut pending = self.shared.pending();
        if let Some(at) = pending.iter().position(|name| *name == self.name) {
            pending.swap_remove(at);
        }
        if pending.is_empty() {
            self.shared.done.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn ready_when_every_guard_is_dropped() {
        let ready = Ready::new();
        assert!(ready.is_ready());
        let config = ready.task("configuration");
        let kernel = ready.task("kernel programs");
        assert_eq!(ready.pending(), ["configuration", "kernel programs"]);
        let waiting = tokio::spawn({
            let ready = ready.clone();
            async move { ready.wait().await }
        });
        drop(config);
        assert_eq!(ready.pending(), ["kernel programs"]);
        assert!(!waiting.is_finished());
        drop(kernel);
        waiting.await.unwrap();
        assert!(ready.is_ready());
    }

    #[test]
    fn two_tasks_of_one_name_are_two_tasks() {
        let ready = Ready::new();
        let one = ready.task("listener");
        let two = ready.task("listener");
        drop(one);
        assert!(!ready.is_ready());
        drop(two);
        assert!(ready.is_ready());
    }
}
