//! TLS messages after the handshake, in records cut anywhere: what is told of them stands in the bytes in that order, and
//! a message is told once it is there whole.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weft_io::tls::{Message, Messages};

fuzz_target!(|records: Vec<&[u8]>| {
    let sent = records.concat();
    let (mut messages, mut told) = (Messages::default(), Vec::new());
    for content in &records {
        let taken = messages.take(content, |message| {
            let (kind, body) = match message {
                Message::Ticket(ticket) => (4, ticket.to_vec()),
                Message::KeyUpdate { wants_ours } => (24, vec![u8::from(wants_ours)]),
            };
            let length = u32::try_from(body.len()).expect("a length of three bytes").to_be_bytes();
            told.push(kind);
            told.extend_from_slice(&length[1..]);
            told.extend(body);
            Ok(())
        });
        if let Err(error) = taken {
            assert!(sent.starts_with(&told));
            weft_fuzz::check_error(&error);
            return;
        }
    }
    assert!(sent.starts_with(&told));
    assert_eq!(messages.is_mid_message(), told.len() < sent.len());
});
