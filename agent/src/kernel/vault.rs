//! A place in the kernel's memory for bytes that outlive the agent, but not the machine: a pinned map, which only root may
//! open, which no disk ever sees, and which goes with the other pins.
//!
//! The map has two halves. What is put goes into the one that does not hold the newest bytes, so that an agent which dies
//! while it writes leaves what was there before.

use super::{Kernel, KernelError, maps::Table};
use std::hash::{DefaultHasher, Hasher};
use weft_ebpf_abi::{VAULT_CHUNK, VAULT_CHUNKS, VaultChunk};

/// Length, serial number and checksum stand before the bytes.
const HEADER: usize = 24;
/// How many chunks a half has.
const HALF: u32 = VAULT_CHUNKS / 2;

/// The place. One process at a time should write it; what two have mixed is found damaged, and counts as nothing.
pub struct Vault {
    table: Table<u32, VaultChunk>,
}

/// What a half holds.
struct Kept {
    half: u32,
    serial: u64,
    bytes: Vec<u8>,
}

impl Kernel {
    /// The place that belongs to this agent's pins.
    pub fn vault(&self) -> Result<Vault, KernelError> {
        Ok(Vault { table: Table::open(&self.pins, "VAULT")? })
    }
}

impl Vault {
    /// Puts `bytes` there in place of what was there.
    pub fn put(&mut self, bytes: &[u8]) -> Result<(), KernelError> {
        let (half, serial) = self.newest().map_or((0, 0), |kept| (1 - kept.half, kept.serial + 1));
        let mut text = Vec::with_capacity(HEADER + bytes.len());
        text.extend((bytes.len() as u64).to_ne_bytes());
        text.extend(serial.to_ne_bytes());
        text.extend(checksum(serial, bytes).to_ne_bytes());
        text.extend(bytes);
        let chunks = text.len().div_ceil(VAULT_CHUNK);
        if chunks > HALF as usize {
            return Err(KernelError::TooManyToKeep { bytes: bytes.len() });
        }
        let (mut key, end) = (half * HALF, (half + 1) * HALF);
        for part in text.chunks(VAULT_CHUNK) {
            let mut chunk = VaultChunk { bytes: [0; VAULT_CHUNK] };
            chunk.bytes[..part.len()].copy_from_slice(part);
            self.table.put(key, chunk)?;
            key += 1;
        }
        // What is no longer needed is not kept: these are keys.
        self.clear(key, end)?;
        self.clear((1 - half) * HALF, (2 - half) * HALF)
    }

    /// What was put there last; `None` if nothing was, or if it is damaged.
    pub fn get(&self) -> Option<Vec<u8>> {
        self.newest().map(|kept| kept.bytes)
    }

    fn newest(&self) -> Option<Kept> {
        [0, 1].into_iter().filter_map(|half| self.half(half)).max_by_key(|kept| kept.serial)
    }

    /// What is whole in a half.
    fn half(&self, half: u32) -> Option<Kept> {
        let first = half * HALF;
        let mut text = self.table.get(first)?.bytes.to_vec();
        let number = |at: usize| Some(u64::from_ne_bytes(text.get(at..at + 8)?.try_into().ok()?));
        let (length, serial, sum) = (usize::try_from(number(0)?).ok()?, number(8)?, number(16)?);
        let chunks = length.checked_add(HEADER)?.div_ceil(VAULT_CHUNK);
        for index in 1..u32::try_from(chunks).ok().filter(|n| *n <= HALF)? {
            text.extend(self.table.get(first + index)?.bytes);
        }
        let bytes = text.get(HEADER..HEADER + length)?.to_vec();
        (checksum(serial, &bytes) == sum).then_some(Kept { half, serial, bytes })
    }

    /// Deletes the entries from `first` on, as far as they go.
    fn clear(&mut self, first: u32, end: u32) -> Result<(), KernelError> {
        let used = (first..end).take_while(|key| self.table.get(*key).is_some());
        used.collect::<Vec<_>>().into_iter().try_for_each(|key| self.table.delete(key))
    }
}

/// Finds what was torn, not what was forged: who may write here may do anything.
fn checksum(serial: u64, bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write_u64(serial);
    hasher.write(bytes);
    hasher.finish()
}
