//! A certificate signing request, from whoever holds a node's token: only the one identity that was asked for is ever
//! certified, for a key that the sender proved to have.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weft_control::issue::check;
use weft_model::Identity;

fuzz_target!(|text: &str| {
    let identity = Identity::new("cluster.local", "shop", "web");
    match check(text, &identity) {
        Ok(_) => {
            let other = Identity::new("cluster.local", "shop", "other");
            assert!(check(text, &other).is_err(), "one request for two identities");
        }
        Err(error) => weft_fuzz::check_error(&error),
    }
});
