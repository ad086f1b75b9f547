//! Socket storage that accepted sockets inherit from their listener, which aya-ebpf's own type cannot ask for.

use core::ptr::null;

/// BPF_MAP_TYPE_SK_STORAGE.
const TYPE: usize = 24;
/// BPF_F_NO_PREALLOC, which such a map must have, and BPF_F_CLONE.
const FLAGS: usize = 1 | 1 << 9;

/// A map of that kind. Only the type is read, from the object's BTF: numbers are array lengths there.
#[repr(C)]
pub struct Inherited<T> {
    r#type: *const [i32; TYPE],
    key: *const i32,
    value: *const T,
    max_entries: *const [i32; 0],
    map_flags: *const [i32; FLAGS],
}

// SAFETY: the loader puts a map in its place; nobody reads the pointers.
unsafe impl<T> Sync for Inherited<T> {}

impl<T> Inherited<T> {
    /// The map's definition.
    pub const fn new() -> Self {
        Self { r#type: null(), key: null(), value: null(), max_entries: null(), map_flags: null() }
    }
}
