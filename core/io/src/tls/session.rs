//! What goes on in a TLS 1.3 session after its handshake: new keys and tickets.

use super::record::{BadRecord, Opener, Sealer};
use rustls::{
    Error, ExtractedSecrets,
    client::{ClientConnectionData, UnbufferedClientConnection},
    kernel::KernelConnection,
    server::{ServerConnectionData, UnbufferedServerConnection},
};

/// The most that an unfinished handshake message may take, in bytes; a ticket that carries a chain takes a few thousand.
const LONGEST_MESSAGE: usize = 64 << 10;
const NEW_SESSION_TICKET: u8 = 4;
const KEY_UPDATE: u8 = 24;

/// The rustls half that still knows the secrets which keys are derived from.
enum Schedule {
    Client(KernelConnection<ClientConnectionData>),
    Server(KernelConnection<ServerConnectionData>),
}

/// A session's keys in use, and where new ones come from.
pub(super) struct Session {
    schedule: Schedule,
    pub(super) sealer: Sealer,
    pub(super) opener: Opener,
    /// The beginning of a handshake message whose end is still to come.
    partial: Vec<u8>,
    /// Whether the peer asked us to replace our key too.
    pub(super) owes_key_update: bool,
}

impl Session {
    pub(super) fn client(connection: UnbufferedClientConnection) -> Result<Self, Error> {
        let (secrets, schedule) = connection.dangerous_into_kernel_connection()?;
        Self::new(&secrets, Schedule::Client(schedule))
    }

    pub(super) fn server(connection: UnbufferedServerConnection) -> Result<Self, Error> {
        let (secrets, schedule) = connection.dangerous_into_kernel_connection()?;
        Self::new(&secrets, Schedule::Server(schedule))
    }

    fn new(secrets: &ExtractedSecrets, schedule: Schedule) -> Result<Self, Error> {
        let unusable = |e: BadRecord| Error::General(e.to_string());
        let (sequence, keys) = &secrets.tx;
        let sealer = Sealer::new(*sequence, keys).map_err(unusable)?;
        let (sequence, keys) = &secrets.rx;
        let opener = Opener::new(*sequence, keys).map_err(unusable)?;
        Ok(Self { schedule, sealer, opener, partial: Vec::new(), owes_key_update: false })
    }

    /// Replaces our key; the message that says so, which is the last thing to be sealed with the old one.
    pub(super) const KEY_UPDATE: [u8; 5] = [KEY_UPDATE, 0, 0, 1, 0];

    /// Takes the next key for what we send.
    pub(super) fn next_sealer(&mut self) -> Result<(), BadRecord> {
        let next = match &mut self.schedule {
            Schedule::Client(schedule) => schedule.update_tx_secret(),
            Schedule::Server(schedule) => schedule.update_tx_secret(),
        };
        let (sequence, keys) = next.map_err(|_| BadRecord::Keys)?;
        self.sealer = Sealer::new(sequence, &keys)?;
        self.owes_key_update = false;
        Ok(())
    }

    fn next_opener(&mut self) -> Result<(), BadRecord> {
        let next = match &mut self.schedule {
            Schedule::Client(schedule) => schedule.update_rx_secret(),
            Schedule::Server(schedule) => schedule.update_rx_secret(),
        };
        let (sequence, keys) = next.map_err(|_| BadRecord::Keys)?;
        self.opener = Opener::new(sequence, &keys)?;
        Ok(())
    }

    /// Whether a handshake message has begun and not ended; nothing else may come between.
    pub(super) fn is_mid_message(&self) -> bool {
        !self.partial.is_empty()
    }

    /// Takes the content of a handshake record.
    pub(super) fn handle(&mut self, content: &[u8]) -> Result<(), BadRecord> {
        if content.is_empty() || self.partial.len() + content.len() > LONGEST_MESSAGE {
            return Err(BadRecord::Message);
        }
        self.partial.extend_from_slice(content);
        let messages = std::mem::take(&mut self.partial);
        let mut rest = &messages[..];
        while let Some((&[kind, a, b, c], after)) = rest.split_first_chunk() {
            let length = u32::from_be_bytes([0, a, b, c]);
            let length = usize::try_from(length).map_err(|_| BadRecord::Message)?;
            let Some((body, after)) = after.split_at_checked(length) else { break };
            rest = after;
            self.message(kind, body, rest.is_empty())?;
        }
        self.partial = rest.to_vec();
        Ok(())
    }

    fn message(&mut self, kind: u8, body: &[u8], is_last: bool) -> Result<(), BadRecord> {
        match (kind, body) {
            (NEW_SESSION_TICKET, ticket) => match &mut self.schedule {
                Schedule::Client(schedule) => {
                    schedule.handle_new_session_ticket(ticket).map_err(|_| BadRecord::Message)
                }
                Schedule::Server(_) => Err(BadRecord::Message),
            },
            // Keys change between records only (RFC 8446, section 5.1).
            (KEY_UPDATE, [wanted @ (0 | 1)]) if is_last => {
                self.owes_key_update |= *wanted == 1;
                self.next_opener()
            }
            _ => Err(BadRecord::Message),
        }
    }
}
