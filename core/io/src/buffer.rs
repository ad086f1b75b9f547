//! Buffers for reading and writing, shared by all connections of a thread: an idle connection holds none.

use bytes::Bytes;
use std::{
    cell::RefCell,
    ops::{Deref, DerefMut},
};

/// The size of a buffer, in bytes: enough for a few system calls to move a lot, small enough to stay in the L2 cache.
pub(crate) const SIZE: usize = 128 << 10;
/// How much is read at once for a relay: what it grows to as a frame in TLS records still fits one buffer, and so goes out
/// with one system call.
const READ: usize = SIZE - 1024;
/// How many unused buffers a thread keeps (2 MiB).
const KEPT: usize = 16;
/// What is read in smaller pieces than this is copied, so that a stalled byte does not pin a whole buffer.
const COPIED_BELOW: usize = 16 << 10;

thread_local! {
    static FREE: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
}

/// A buffer of [`SIZE`] bytes that goes back to its thread's store when it is dropped.
pub(crate) struct Buffer(Box<[u8]>);

impl Buffer {
    pub(crate) fn take() -> Self {
        let kept = FREE.with_borrow_mut(Vec::pop);
        Self(kept.unwrap_or_else(|| vec![0; SIZE].into_boxed_slice()))
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let buffer = std::mem::take(&mut self.0);
        // While a thread ends its store may be gone already; the buffer is then freed like any other.
        let _ = FREE.try_with(|free| {
            let mut free = free.borrow_mut();
            if free.len() < KEPT {
                free.push(buffer);
            }
        });
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

/// The filled part of a buffer, as the owner of shared bytes.
struct Filled {
    buffer: Buffer,
    length: usize,
}

impl AsRef<[u8]> for Filled {
    fn as_ref(&self) -> &[u8] {
        &self.buffer[..self.length]
    }
}

/// Lets `read` fill a buffer. It gives how much it filled, 0 at the end, or `None` where there was nothing to read; what
/// comes back says the same with the bytes, and `Some(None)` at the end.
pub(crate) fn read_with<E>(
    read: impl FnOnce(&mut [u8]) -> Result<Option<usize>, E>,
) -> Result<Option<Option<Bytes>>, E> {
    let mut buffer = Buffer::take();
    let Some(length) = read(&mut buffer[..READ])? else { return Ok(None) };
    Ok(Some(match length {
        0 => None,
        1..COPIED_BELOW => Some(Bytes::copy_from_slice(&buffer[..length])),
        _ => Some(Bytes::from_owner(Filled { buffer, length })),
    }))
}
