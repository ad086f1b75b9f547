//! What goes on in a TLS 1.3 session after its handshake: new keys and tickets.

use super::{
    message::{Message, Messages},
    record::{BadRecord, Opener, Sealer},
};
use rustls::{
    Error, ExtractedSecrets,
    client::{ClientConnectionData, UnbufferedClientConnection},
    kernel::KernelConnection,
    server::{ServerConnectionData, UnbufferedServerConnection},
};
use std::mem;

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
    messages: Messages,
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
        Ok(Self { schedule, sealer, opener, messages: Messages::default(), owes_key_update: false })
    }

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
        self.messages.is_mid_message()
    }

    /// Takes the content of a handshake record.
    pub(super) fn handle(&mut self, content: &[u8]) -> Result<(), BadRecord> {
        let mut messages = mem::take(&mut self.messages);
        let taken = messages.take(content, |message| self.follow(message));
        self.messages = messages;
        taken
    }

    fn follow(&mut self, message: Message<'_>) -> Result<(), BadRecord> {
        match (message, &mut self.schedule) {
            (Message::Ticket(ticket), Schedule::Client(schedule)) => {
                schedule.handle_new_session_ticket(ticket).map_err(|_| BadRecord::Message)
            }
            (Message::Ticket(_), Schedule::Server(_)) => Err(BadRecord::Message),
            (Message::KeyUpdate { wants_ours }, _) => {
                self.owes_key_update |= wants_ours;
                self.next_opener()
            }
        }
    }
}
