//! A place in the kernel's memory for bytes that outlive the agent, but not the machine: a pinned map, which only root may
//! open, which no disk ever sees, and which goes with the other pins.

use super::{Kernel, KernelError, maps::Table};
use std::hash::{DefaultHasher, Hasher};
use weft_ebpf_abi::{VAULT_CHUNK, VAULT_CHUNKS, VaultChunk};

/// Length and checksum stand before the bytes.
const HEADER: usize = 16;

/// The place. One process at a time should write it; what two have mixed is found damaged, and counts as nothing.
pub struct Vault {
    table: Table<u32, VaultChunk>,
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
        let mut text = Vec::with_capacity(HEADER + bytes.len());
        text.extend((bytes.len() as u64).to_ne_bytes());
        text.extend(checksum(bytes).to_ne_bytes());
        text.extend(bytes);
        let mut used = 0;
        for (index, part) in (0..).zip(text.chunks(VAULT_CHUNK)) {
            let mut chunk = VaultChunk { bytes: [0; VAULT_CHUNK] };
            chunk.bytes[..part.len()].copy_from_slice(part);
            self.table.put(index, chunk)?;
            used = index + 1;
        }
        // What is no longer needed is not kept: these are keys.
        let more = (used..VAULT_CHUNKS).take_while(|index| self.table.get(*index).is_some());
        for index in more.collect::<Vec<_>>() {
            self.table.delete(index)?;
        }
        Ok(())
    }

    /// What was put there last; `None` if nothing was, or if it is damaged.
    pub fn get(&self) -> Option<Vec<u8>> {
        let mut text = self.table.get(0)?.bytes.to_vec();
        let length = usize::try_from(u64::from_ne_bytes(text[..8].try_into().ok()?)).ok()?;
        let sum = u64::from_ne_bytes(text[8..HEADER].try_into().ok()?);
        let chunks = length.checked_add(HEADER)?.div_ceil(VAULT_CHUNK);
        for index in 1..u32::try_from(chunks).ok().filter(|n| *n <= VAULT_CHUNKS)? {
            text.extend(self.table.get(index)?.bytes);
        }
        let bytes = text.get(HEADER..HEADER + length)?;
        (checksum(bytes) == sum).then(|| bytes.to_vec())
    }
}

/// Finds what was torn, not what was forged: who may write here may do anything.
fn checksum(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}
