//! What a worker and its keeper send each other: a packet that is understood says one thing, and in one way.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weft_agent::keeper::wire::Message;

fuzz_target!(|packet: &[u8]| {
    if let Some(message) = Message::decode(packet) {
        assert_eq!(message.encode().as_bytes(), packet);
    }
});
