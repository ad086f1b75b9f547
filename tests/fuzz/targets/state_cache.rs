//! The state that an agent keeps on disk: damage is an error, and what is read can be written and read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weft_io::discovery::cache::CacheFile;
use weft_model::SnapshotStore;

fuzz_target!(|data: &[u8]| {
    let file = CacheFile { path: weft_fuzz::file::holding(data), limit: 1 << 20 };
    match file.load() {
        Ok(cached) => {
            let cached = cached.expect("a file that is there");
            assert!(cached.versions.len() <= cached.deltas.len());
            let store = SnapshotStore::default();
            store.apply(cached.deltas);
        }
        Err(error) => weft_fuzz::check_error(&error),
    }
});
