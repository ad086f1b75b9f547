//! A SPIFFE URI of a peer's certificate: there is one way to write an identity, and policies see its parts apart.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weft_model::Identity;

fuzz_target!(|text: &str| {
    match text.parse::<Identity>() {
        Ok(identity) => {
            assert_eq!(identity.to_string(), text);
            assert_eq!(identity.principal(), text.strip_prefix("spiffe://").expect("the scheme"));
            assert_eq!(identity.principal().split('/').count(), 5, "a part with a slash in it");
        }
        Err(error) => weft_fuzz::check_error(&error),
    }
});
