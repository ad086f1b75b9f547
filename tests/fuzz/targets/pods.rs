//! The list of a node's pods: sorted, each pod once.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    match weft_agent::pods::source::read_listing(&weft_fuzz::file::holding(data)) {
        Ok(pods) => {
            let names = |i: usize| (&pods[i].namespace, &pods[i].name);
            assert!((1..pods.len()).all(|i| names(i - 1) < names(i)), "{pods:?}");
        }
        Err(error) => weft_fuzz::check_error(&error),
    }
});
