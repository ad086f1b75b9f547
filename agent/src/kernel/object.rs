//! The kernel programs as one object: loaded on the pinned maps, again and again.

use super::{KernelError, maps::NAMES, pins::Pins};
use aya::{Ebpf, EbpfLoader, include_bytes_aligned, programs::ProgramError};
use std::{hash::Hasher, io};

/// The kernel programs, as `build.rs` made them.
static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/weft-ebpf.o"));

/// Loads the object, again and again: each pod gets a copy of `sk_lookup`.
pub(super) struct Loader(EbpfLoader<'static>);

impl Loader {
    /// A loader for these pins. Made once: aya parses all the types of the running kernel for it.
    pub(super) fn new(pins: &Pins, max_addresses: Option<u32>) -> Self {
        let mut loader = EbpfLoader::new();
        // The programs read no kernel structure, so there is nothing to relocate by the kernel's own types.
        loader.btf(None);
        for &name in NAMES {
            loader.map_pin_path(name, pins.map(name));
        }
        if let Some(most) = max_addresses {
            loader.map_max_entries("DESTINATIONS", most);
        }
        Self(loader)
    }

    /// Loads the object on the pinned maps, making those that are missing. `cookie` goes into the copy of `sk_lookup`.
    pub(super) fn load(&mut self, cookie: u64) -> Result<Ebpf, KernelError> {
        // aya keeps a reference for as long as the loader lives. Eight bytes for each pod that was ever enrolled are the
        // price of not parsing the kernel's types each time.
        let cookie: &'static u64 = Box::leak(Box::new(cookie));
        Ok(self.0.override_global("NETNS_COOKIE", cookie, true).load(OBJECT)?)
    }
}

/// Has a program verified. A signal to this process interrupts the verifier, which gives up then (`EAGAIN`) and is asked again.
pub(super) fn verified(load: impl FnMut() -> Result<(), ProgramError>) -> Result<(), ProgramError> {
    again_while(
        load,
        |error| matches!(error, ProgramError::LoadError { io_error, .. } if io_error.kind() == io::ErrorKind::WouldBlock),
    )
}

fn again_while<E>(
    mut load: impl FnMut() -> Result<(), E>,
    interrupted: impl Fn(&E) -> bool,
) -> Result<(), E> {
    /// As often as libbpf asks.
    const ATTEMPTS: usize = 5;
    for _ in 1..ATTEMPTS {
        match load() {
            Err(error) if interrupted(&error) => {}
            done => return done,
        }
    }
    load()
}

/// Tells one object from another.
pub(super) fn fingerprint() -> u64 {
    let mut hasher = rustc_hash::FxHasher::default();
    hasher.write(OBJECT);
    // 0 stands for "none".
    hasher.finish().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How often a program is loaded that fails in these ways and then not, and whether it is.
    fn attempts(failures: &[i32]) -> (usize, bool) {
        let mut asked = 0;
        let load = || {
            asked += 1;
            failures.get(asked - 1).map_or(Ok(()), |errno| Err(*errno))
        };
        let is_loaded = again_while(load, |errno| *errno == libc::EAGAIN).is_ok();
        (asked, is_loaded)
    }

    #[test]
    fn an_interrupted_verifier_is_asked_again_and_one_that_refuses_is_not() {
        assert_eq!(attempts(&[]), (1, true));
        assert_eq!(attempts(&[libc::EAGAIN, libc::EAGAIN]), (3, true));
        assert_eq!(attempts(&[libc::EINVAL]), (1, false));
        assert_eq!(attempts(&[libc::EAGAIN; 9]), (5, false));
    }
}
