//! The pinned maps, typed.
#![allow(unsafe_code)]

use super::{KernelError, pins::Pins};
use aya::maps::{HashMap, Map, MapData, MapError};
use weft_ebpf_abi::Plain;

/// Every map of the object, under the name it is pinned by.
pub(super) const NAMES: &[&str] = &[
    "CONFIG",
    "AGENTS",
    "WORKLOADS",
    "OUTSIDE",
    "DESTINATIONS",
    "SERVICES",
    "BACKENDS",
    "PAIRS",
    "PLAIN",
    "ARRIVALS",
    "LISTENERS",
    "EVENTS",
    "STATS",
    "SOCKETS",
    "OURS",
    "VAULT",
    #[cfg(feature = "kernel-log")]
    "AYA_LOGS",
];

/// A value of the shared layout, as aya wants it.
#[repr(transparent)]
#[derive(Clone, Copy, Debug)]
pub(super) struct Raw<T>(pub T);

// SAFETY: `Plain` promises that the type is nothing but its bytes, and `repr(transparent)` that this one is too.
unsafe impl<T: Plain> aya::Pod for Raw<T> {}

/// A hash map of the shared layout.
pub(super) struct Table<K: Plain, V: Plain> {
    name: &'static str,
    map: HashMap<MapData, Raw<K>, Raw<V>>,
}

impl<K: Plain, V: Plain> Table<K, V> {
    /// Opens the pinned map.
    pub(super) fn open(pins: &Pins, name: &'static str) -> Result<Self, KernelError> {
        Ok(Self { name, map: open(pins, name)? })
    }

    /// The value of `key`; an error of the kernel counts as none, as the programs see it.
    pub(super) fn get(&self, key: K) -> Option<V> {
        self.map.get(&Raw(key), 0).ok().map(|v| v.0)
    }

    /// Writes one entry.
    pub(super) fn put(&mut self, key: K, value: V) -> Result<(), KernelError> {
        self.map.insert(Raw(key), Raw(value), 0).map_err(KernelError::map(self.name))
    }

    /// Deletes one entry, if it is there.
    pub(super) fn delete(&mut self, key: K) -> Result<(), KernelError> {
        match self.map.remove(&Raw(key)) {
            Ok(()) | Err(MapError::KeyNotFound) => Ok(()),
            Err(MapError::SyscallError(e)) if e.io_error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
            Err(source) => Err(KernelError::Map { name: self.name, source }),
        }
    }

    /// Every entry. One that changes meanwhile may be missed or seen twice.
    pub(super) fn entries(&self) -> impl Iterator<Item = (K, V)> + '_ {
        self.map.iter().filter_map(|entry| entry.ok().map(|(k, v)| (k.0, v.0)))
    }
}

/// Opens a pinned map as what it is.
pub(super) fn open<M: TryFrom<Map, Error = MapError>>(
    pins: &Pins,
    name: &'static str,
) -> Result<M, KernelError> {
    let map = Map::from_map_data(data(pins, name)?).map_err(KernelError::map(name))?;
    map.try_into().map_err(KernelError::map(name))
}

/// Opens any pinned map, whatever it is.
pub(super) fn data(pins: &Pins, name: &'static str) -> Result<MapData, KernelError> {
    MapData::from_pin(pins.map(name)).map_err(KernelError::map(name))
}

/// A value of the shared layout that the kernel wrote; `None` for fewer bytes than it has.
pub(super) fn read<T: Plain>(bytes: &[u8]) -> Option<T> {
    // SAFETY: the length suffices, and `Plain` promises that any bytes are a value.
    (bytes.len() >= size_of::<T>()).then(|| unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
}
