//! TLS 1.3 records (RFC 8446, section 5): sealing and opening them where they lie.
//!
//! rustls does the handshake and derives the keys; it copies each record two or three times on its way, which is most of
//! what bulk costs. Here a record is sealed straight out of the caller's bytes and opened inside the read buffer.

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use rustls::ConnectionTrafficSecrets;

/// The bytes before a record's ciphertext: type, version, length.
pub(super) const HEADER: usize = 5;
/// The most plaintext a record holds, in bytes.
pub(super) const MAX_PLAIN: usize = 1 << 14;
/// The bytes of the tag that a record ends with.
const TAG: usize = 16;
/// What sealing adds after the plaintext: the inner type and the tag.
pub(super) const OVERHEAD: usize = 1 + TAG;
/// The most ciphertext a record may have, in bytes.
const MAX_CIPHER: usize = MAX_PLAIN + 256;
/// After so many records a key is replaced; AES-GCM's bound is 2^24.5 full records (RFC 8446, section 5.5).
pub(super) const RECORDS_A_KEY: u64 = 1 << 23;

/// The inner type of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Alert,
    Handshake,
    Data,
}

impl Kind {
    fn code(self) -> u8 {
        match self {
            Kind::Alert => 21,
            Kind::Handshake => 22,
            Kind::Data => 23,
        }
    }

    fn from_code(code: u8) -> Option<Self> {
        [Kind::Alert, Kind::Handshake, Kind::Data].into_iter().find(|kind| kind.code() == code)
    }
}

/// What is wrong with a record, or with what it carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadRecord {
    /// Its header is none of a TLS 1.3 record after the handshake.
    #[error("a TLS record has a malformed header")]
    Header,
    /// It does not decrypt: it was changed on its way.
    #[error("a TLS record does not decrypt")]
    Integrity,
    /// Its content has no type, or is longer than allowed.
    #[error("a TLS record has malformed content")]
    Content,
    /// The peer ended the session and said why; after a handshake this is how a server refuses a client's certificate.
    #[error("the peer ended TLS with the alert {:?}", rustls::AlertDescription::from(*.0))]
    Alert(u8),
    /// A handshake message that has no place after the handshake, or a broken one.
    #[error("an unexpected TLS handshake message")]
    Message,
    /// Too many records without data.
    #[error("too many TLS records without data")]
    Flood,
    /// The keys cannot be used.
    #[error("the TLS session's keys cannot be used")]
    Keys,
}

/// One direction's key and the number of its next record.
struct Key {
    key: LessSafeKey,
    iv: [u8; NONCE_LEN],
    sequence: u64,
}

impl Key {
    fn new(sequence: u64, secrets: &ConnectionTrafficSecrets) -> Result<Self, BadRecord> {
        let (algorithm, key, iv) = match secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (&AES_128_GCM, key, iv),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (&AES_256_GCM, key, iv),
            _ => return Err(BadRecord::Keys),
        };
        let key = UnboundKey::new(algorithm, key.as_ref()).map_err(|_| BadRecord::Keys)?;
        let iv = iv.as_ref().try_into().map_err(|_| BadRecord::Keys)?;
        Ok(Self { key: LessSafeKey::new(key), iv, sequence })
    }

    /// The nonce of the next record; each is given once (RFC 8446, section 5.3).
    fn next_nonce(&mut self) -> Nonce {
        let mut nonce = self.iv;
        for (byte, part) in nonce[NONCE_LEN - 8..].iter_mut().zip(self.sequence.to_be_bytes()) {
            *byte ^= part;
        }
        self.sequence += 1;
        Nonce::assume_unique_for_key(nonce)
    }
}

/// Seals the records of one direction.
pub(super) struct Sealer(Key);

impl Sealer {
    pub(super) fn new(sequence: u64, secrets: &ConnectionTrafficSecrets) -> Result<Self, BadRecord> {
        Ok(Self(Key::new(sequence, secrets)?))
    }

    /// Whether the key has sealed so much that it must be replaced.
    pub(super) fn is_worn(&self) -> bool {
        self.0.sequence >= RECORDS_A_KEY
    }

    /// Seals `plain` (at most [`MAX_PLAIN`] bytes) at the start of `out`; gives the length of the record.
    pub(super) fn seal(&mut self, kind: Kind, plain: &[u8], out: &mut [u8]) -> Result<usize, BadRecord> {
        let sealed = plain.len() + OVERHEAD;
        let [high, low] = u16::try_from(sealed).map_err(|_| BadRecord::Content)?.to_be_bytes();
        let header = [Kind::Data.code(), 3, 3, high, low];
        let record = out.get_mut(..HEADER + sealed).ok_or(BadRecord::Content)?;
        record[..HEADER].copy_from_slice(&header);
        let (cipher, tail) = record[HEADER..].split_at_mut(plain.len());
        let nonce = self.0.next_nonce();
        self.0
            .key
            .seal_out_of_place_scatter(nonce, Aad::from(header), plain, cipher, &[kind.code()], tail)
            .map_err(|_| BadRecord::Integrity)?;
        Ok(HEADER + sealed)
    }
}

/// Opens the records of one direction.
pub(super) struct Opener(Key);

/// An opened record: its type, and how many bytes of plaintext lie after its header.
pub(super) struct Opened {
    pub(super) kind: Kind,
    pub(super) plain: usize,
}

impl Opener {
    pub(super) fn new(sequence: u64, secrets: &ConnectionTrafficSecrets) -> Result<Self, BadRecord> {
        Ok(Self(Key::new(sequence, secrets)?))
    }

    /// Opens `record`, which must be exactly one record, in place.
    pub(super) fn open(&mut self, record: &mut [u8]) -> Result<Opened, BadRecord> {
        let (header, sealed) = record.split_first_chunk_mut::<HEADER>().ok_or(BadRecord::Header)?;
        let nonce = self.0.next_nonce();
        let opened = self.0.key.open_in_place(nonce, Aad::from(*header), sealed);
        content(opened.map_err(|_| BadRecord::Integrity)?)
    }

    /// Opens `record`, which must be exactly one record, into `out`, which must be as long as [`room`] says.
    pub(super) fn open_into(&mut self, record: &[u8], out: &mut [u8]) -> Result<Opened, BadRecord> {
        let (header, sealed) = record.split_first_chunk::<HEADER>().ok_or(BadRecord::Header)?;
        let (cipher, tag) = sealed.split_at_checked(out.len()).ok_or(BadRecord::Header)?;
        let nonce = self.0.next_nonce();
        let opened = self.0.key.open_separate_gather(nonce, Aad::from(*header), cipher, tag, out);
        opened.map_err(|_| BadRecord::Integrity)?;
        content(out)
    }
}

/// What an opened record holds.
fn content(opened: &[u8]) -> Result<Opened, BadRecord> {
    // The type is the last byte that is not padding.
    let end = opened.iter().rposition(|byte| *byte != 0).ok_or(BadRecord::Content)?;
    let kind = Kind::from_code(opened[end]).ok_or(BadRecord::Content)?;
    if end > MAX_PLAIN { Err(BadRecord::Content) } else { Ok(Opened { kind, plain: end }) }
}

/// How many bytes a record of `length` bytes takes when it is opened: its content, its type and its padding.
pub(super) fn room(length: usize) -> usize {
    length.saturating_sub(HEADER + TAG)
}

/// The length of the record that `bytes` begin with, header and all, where enough of it is there to tell.
pub(super) fn length(bytes: &[u8]) -> Result<Option<usize>, BadRecord> {
    let Some(&[kind, major, _, high, low]) = bytes.first_chunk::<HEADER>() else { return Ok(None) };
    let sealed = usize::from(u16::from_be_bytes([high, low]));
    if kind == Kind::Data.code() && major == 3 && (OVERHEAD..=MAX_CIPHER).contains(&sealed) {
        Ok(Some(HEADER + sealed))
    } else {
        Err(BadRecord::Header)
    }
}
