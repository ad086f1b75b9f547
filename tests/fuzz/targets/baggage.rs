//! The `baggage` header: whatever it says can be sent on as a header, and says the same there.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weft_io::hbone::Baggage;

/// Every byte of a value may need three when it is sent on.
const GROWTH: usize = 3;

fuzz_target!(|text: &str| {
    match text.parse::<Baggage>() {
        Ok(mut baggage) => {
            let sent = baggage.to_string();
            assert!(sent.bytes().all(|b| b.is_ascii_graphic()), "{sent}");
            assert!(sent.len() <= text.len() * GROWTH);
            if sent.len() <= text.len() {
                if baggage.workload.is_empty() {
                    // A kind without a name is nothing to send.
                    baggage.kind = "".into();
                }
                let mut again: Baggage = sent.parse().expect("our own words");
                if baggage.kind.is_empty() {
                    again.kind = "".into();
                }
                assert_eq!(again, baggage);
            }
        }
        Err(error) => weft_fuzz::check_error(&error),
    }
});
