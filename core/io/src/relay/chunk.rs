//! Read buffers, shared by all connections of a thread: an idle connection holds none.

use bytes::Bytes;
use std::cell::RefCell;

/// The size of a read, in bytes: enough for a few system calls to move a lot, small enough to stay in the L2 cache.
const CHUNK: usize = 128 << 10;
/// How many unused buffers a thread keeps (2 MiB).
const KEPT: usize = 16;
/// What is read in smaller pieces than this is copied, so that a stalled byte does not pin a whole buffer.
const COPIED_BELOW: usize = 16 << 10;

thread_local! {
    static FREE: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
}

/// A buffer that goes back to its thread's store when the last reference to its bytes is gone.
struct Chunk {
    buffer: Box<[u8]>,
    filled: usize,
}

impl AsRef<[u8]> for Chunk {
    fn as_ref(&self) -> &[u8] {
        &self.buffer[..self.filled]
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        give_back(std::mem::take(&mut self.buffer));
    }
}

fn take() -> Box<[u8]> {
    FREE.with_borrow_mut(Vec::pop).unwrap_or_else(|| vec![0; CHUNK].into_boxed_slice())
}

fn give_back(buffer: Box<[u8]>) {
    // While a thread ends its store may be gone already; the buffer is then freed like any other.
    let _ = FREE.try_with(|free| {
        let mut free = free.borrow_mut();
        if free.len() < KEPT {
            free.push(buffer);
        }
    });
}

/// Lets `read` fill a buffer; gives what it filled, or `None` where it filled nothing.
pub(super) fn read_with<E>(read: impl FnOnce(&mut [u8]) -> Result<usize, E>) -> Result<Option<Bytes>, E> {
    let mut buffer = take();
    match read(&mut buffer) {
        Ok(filled) if filled >= COPIED_BELOW => Ok(Some(Bytes::from_owner(Chunk { buffer, filled }))),
        small => {
            let bytes = small.map(|filled| (filled > 0).then(|| Bytes::copy_from_slice(&buffer[..filled])));
            give_back(buffer);
            bytes
        }
    }
}
