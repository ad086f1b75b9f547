//! The allocator of the agent's processes, and how it behaves.
//!
//! jemalloc gives freed pages back as a side effect of later calls, so a thread that has gone to sleep keeps all that it
//! freed: loading the kernel programs alone left 12 MB with an agent that had nothing to do. A thread of jemalloc's own
//! gives them back instead, off the path of every connection.

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// One thread gives back what was free for a second. The system gets the pages at once, not when it is short of memory,
/// so that what is reported as resident is what is used. jemalloc reads this when it starts (`malloc_conf` in
/// jemalloc(3)).
// SAFETY: jemalloc declares the symbol weak, as a pointer to a C string. A reference to an array is one pointer, never
// null; its bytes end with a zero and live for ever.
#[allow(unsafe_code)]
#[unsafe(export_name = "_rjem_malloc_conf")]
static MALLOC_CONF: &[u8; 85] =
    b"background_thread:true,max_background_threads:1,dirty_decay_ms:1000,muzzy_decay_ms:0\0";
