//! Names of services and policies as discovery sends them: what is read is what was written.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weft_model::{PolicyKey, ServiceKey};

fuzz_target!(|text: &str| {
    match text.parse::<ServiceKey>() {
        Ok(key) => assert_eq!(key.to_string(), text),
        Err(error) => weft_fuzz::check_error(&error),
    }
    match text.parse::<PolicyKey>() {
        Ok(key) => assert_eq!(key.to_string(), text),
        Err(error) => weft_fuzz::check_error(&error),
    }
});
