//! A reproducible stream of bytes that does not repeat, so that nothing lost, doubled or moved goes unseen.

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// How much each direction carries, in bytes: many times every window and buffer on the way.
pub const LENGTH: usize = 24 << 20;
const CHUNK: usize = 48 << 10;

/// The stream of one direction.
pub struct Payload(u64);

impl Payload {
    /// The stream that begins with `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn fill(&mut self, chunk: &mut [u8]) {
        for word in chunk.chunks_mut(8) {
            // Marsaglia's xorshift64.
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            word.copy_from_slice(&self.0.to_le_bytes()[..word.len()]);
        }
    }

    /// Writes all of it.
    pub async fn send(mut self, to: &mut (impl AsyncWrite + Unpin)) {
        let mut chunk = vec![0; CHUNK];
        for _ in 0..LENGTH / CHUNK {
            self.fill(&mut chunk);
            to.write_all(&chunk).await.unwrap();
        }
    }

    /// Reads all of it, and compares.
    pub async fn receive(mut self, from: &mut (impl AsyncRead + Unpin)) {
        let (mut chunk, mut expected) = (vec![0; CHUNK], vec![0; CHUNK]);
        for i in 0..LENGTH / CHUNK {
            self.fill(&mut expected);
            from.read_exact(&mut chunk).await.unwrap();
            assert!(chunk == expected, "chunk {i} is not what was sent");
        }
    }
}
