//! The `:authority` of a CONNECT: what is accepted has one canonical form, and leads to a port.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weft_io::hbone::Authority;

fuzz_target!(|text: &str| {
    match text.parse::<Authority>() {
        Ok(authority) => {
            let canonical = authority.to_string();
            assert_eq!(canonical.parse(), Ok(authority.clone()), "{canonical}");
            assert!(canonical.len() <= text.len().max(48), "{canonical} out of {text}");
            assert_ne!(authority.port(), 0);
            if let Authority::Ip(at) = authority {
                assert_eq!(at, weft_model::address::canonical(at));
            }
        }
        Err(error) => weft_fuzz::check_error(&error),
    }
});
