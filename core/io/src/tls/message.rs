//! Handshake messages after the handshake (RFC 8446, section 4.6), put together from the records that carry them.

use super::record::BadRecord;
use std::mem;

/// The most that an unfinished message may take, in bytes; a ticket that carries a chain takes a few thousand.
const LONGEST: usize = 64 << 10;
const NEW_SESSION_TICKET: u8 = 4;
const KEY_UPDATE: u8 = 24;

/// The message that announces our next key; it is the last thing to be sealed with the old one.
pub(super) const OUR_KEY_UPDATE: [u8; 5] = [KEY_UPDATE, 0, 0, 1, 0];

/// A message that has a place after the handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// A ticket for resuming the session later.
    Ticket(&'a [u8]),
    /// The peer's next record comes under its next key.
    KeyUpdate {
        /// Whether it asks for the same of us.
        wants_ours: bool,
    },
}

/// Messages in the making.
#[derive(Debug, Default)]
pub struct Messages {
    /// The beginning of a message whose end is still to come.
    partial: Vec<u8>,
}

impl Messages {
    /// Whether a message has begun and not ended; nothing else may come between.
    pub fn is_mid_message(&self) -> bool {
        !self.partial.is_empty()
    }

    /// Takes the content of a handshake record and gives `each` message that is complete with it.
    ///
    /// # Errors
    /// [`BadRecord::Message`] at what has no place here, is malformed or too long; else what `each` answers.
    pub fn take(
        &mut self,
        content: &[u8],
        mut each: impl FnMut(Message<'_>) -> Result<(), BadRecord>,
    ) -> Result<(), BadRecord> {
        if content.is_empty() || self.partial.len() + content.len() > LONGEST {
            return Err(BadRecord::Message);
        }
        self.partial.extend_from_slice(content);
        let messages = mem::take(&mut self.partial);
        let mut rest = &messages[..];
        while let Some((&[kind, a, b, c], after)) = rest.split_first_chunk() {
            let length = u32::from_be_bytes([0, a, b, c]);
            let length = usize::try_from(length).map_err(|_| BadRecord::Message)?;
            let Some((body, after)) = after.split_at_checked(length) else { break };
            rest = after;
            each(Message::read(kind, body, rest.is_empty())?)?;
        }
        self.partial = rest.to_vec();
        Ok(())
    }
}

impl<'a> Message<'a> {
    fn read(kind: u8, body: &'a [u8], is_last: bool) -> Result<Self, BadRecord> {
        match (kind, body) {
            (NEW_SESSION_TICKET, ticket) => Ok(Self::Ticket(ticket)),
            // Keys change between records only (RFC 8446, section 5.1).
            (KEY_UPDATE, [wanted @ (0 | 1)]) if is_last => Ok(Self::KeyUpdate { wants_ours: *wanted == 1 }),
            _ => Err(BadRecord::Message),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes of `records`: the messages, as text, and whether all went well.
    fn read(records: &[&[u8]]) -> (Vec<String>, bool) {
        let (mut messages, mut seen) = (Messages::default(), Vec::new());
        let all = records.iter().all(|content| {
            let taken = messages.take(content, |message| {
                seen.push(format!("{message:?}"));
                Ok(())
            });
            taken.is_ok()
        });
        (seen, all)
    }

    #[test]
    fn messages_cross_records() {
        let whole = [4, 0, 0, 3, 7, 8, 9, 24, 0, 0, 1, 1];
        let expected = vec!["Ticket([7, 8, 9])".to_owned(), "KeyUpdate { wants_ours: true }".to_owned()];
        assert_eq!(read(&[&whole]), (expected.clone(), true));
        for cut in 1..whole.len() {
            assert_eq!(read(&[&whole[..cut], &whole[cut..]]), (expected.clone(), true), "cut at {cut}");
        }
    }

    #[test]
    fn what_has_no_place_is_refused() {
        for record in [&[][..], &[1, 0, 0, 0], &[24, 0, 0, 1, 2], &[24, 0, 0, 0], &[24, 0, 0, 1, 0, 4]] {
            assert!(!read(&[record]).1, "{record:?}");
        }
        let endless = vec![0; LONGEST / 2];
        assert!(!read(&[&[4, 255, 255, 255], &endless, &endless]).1);
    }
}
