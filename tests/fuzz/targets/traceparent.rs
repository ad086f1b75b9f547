//! The `traceparent` header: version 0 has one way to be written, and no identifier is zero.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weft_io::hbone::Traceparent;

fuzz_target!(|text: &str| {
    match text.parse::<Traceparent>() {
        Ok(parent) => {
            let written = parent.to_string();
            assert_eq!(written.parse(), Ok(parent));
            if text.starts_with("00") {
                assert_eq!(written, text);
            }
            assert!(parent.trace_id != 0 && parent.parent_id != 0);
        }
        Err(error) => weft_fuzz::check_error(&error),
    }
});
