//! The `forwarded` header, on which the client's address rests: one client, and the same after a round trip.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weft_io::hbone::Forwarded;

fuzz_target!(|text: &str| {
    match text.parse::<Forwarded>() {
        Ok(forwarded) => {
            assert_eq!(forwarded.to_string().parse(), Ok(forwarded));
            assert_eq!(forwarded.ip, forwarded.ip.to_canonical());
            assert_ne!(forwarded.port, Some(0));
            // Another header's worth of hops behind it changes nothing about the first.
            assert_eq!(format!("{forwarded}, for=192.0.2.1").parse(), Ok(forwarded));
        }
        Err(error) => weft_fuzz::check_error(&error),
    }
});
