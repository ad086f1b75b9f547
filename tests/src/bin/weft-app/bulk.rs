//! The same number of bytes in both directions at once; each side checks what it got.
//!
//! Client: length (8 bytes), that many bytes, their digest. Server: as many bytes, their digest, and the digest of what it
//! received.

use crate::checks;
use anyhow::{Context, Result};
use aws_lc_rs::digest::{self, SHA256};
use serde_json::{Value, json};
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
    time::Instant,
};

const CHUNK: usize = 256 << 10;

pub fn run(to: SocketAddr, bytes: u64) -> Result<Value> {
    let mut stream = checks::connect(to)?;
    let begun = Instant::now();
    let mut writer = stream.try_clone()?;
    let sender = thread::spawn(move || -> Result<[u8; 32]> {
        writer.write_all(&bytes.to_be_bytes())?;
        send(&mut writer, bytes, 1).context("sending")
    });
    let (received, announced) = receive(&mut stream, bytes).context("receiving")?;
    let mut at_server = [0; 32];
    stream.read_exact(&mut at_server).context("the server's digest")?;
    let sent = join(sender)?;
    Ok(json!({
        "ok": received == announced && sent == at_server,
        "bytes": bytes,
        "sent_sha256": hex(&sent),
        "arrived_sha256": hex(&at_server),
        "received_sha256": hex(&received),
        "seconds": begun.elapsed().as_secs_f64(),
    }))
}

pub fn serve(listener: &TcpListener) -> Result<Value> {
    for stream in listener.incoming() {
        let stream = stream?;
        thread::spawn(move || {
            if let Err(error) = exchange(stream) {
                println!("{}", crate::outcome::failed(&error));
            }
        });
    }
    Ok(Value::Null)
}

fn exchange(mut stream: TcpStream) -> Result<()> {
    let mut length = [0; 8];
    stream.read_exact(&mut length)?;
    let bytes = u64::from_be_bytes(length);
    let mut writer = stream.try_clone()?;
    let sender = thread::spawn(move || send(&mut writer, bytes, 2));
    let (received, _) = receive(&mut stream, bytes)?;
    join(sender)?;
    stream.write_all(&received)?;
    Ok(())
}

fn join(thread: thread::JoinHandle<Result<[u8; 32]>>) -> Result<[u8; 32]> {
    thread.join().map_err(|_| anyhow::anyhow!("the sender panicked"))?
}

/// Sends `bytes` bytes that depend on `seed`, and their digest.
fn send(stream: &mut TcpStream, bytes: u64, seed: u64) -> Result<[u8; 32]> {
    let mut context = digest::Context::new(&SHA256);
    let mut chunk = vec![0; CHUNK];
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut left = bytes;
    while left > 0 {
        for word in chunk.chunks_exact_mut(8) {
            // xorshift64: cheap, and no two chunks are alike, so that swapped or lost ones are noticed.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            word.copy_from_slice(&state.to_ne_bytes());
        }
        let now = left.min(CHUNK as u64) as usize;
        context.update(&chunk[..now]);
        stream.write_all(&chunk[..now])?;
        left -= now as u64;
    }
    let digest = finish(context)?;
    stream.write_all(&digest)?;
    Ok(digest)
}

/// Receives `bytes` bytes: their digest, and the digest that the sender says they have.
fn receive(stream: &mut TcpStream, bytes: u64) -> Result<([u8; 32], [u8; 32])> {
    let mut context = digest::Context::new(&SHA256);
    let mut chunk = vec![0; CHUNK];
    let mut left = bytes;
    while left > 0 {
        let room = left.min(CHUNK as u64) as usize;
        let length = stream.read(&mut chunk[..room])?;
        anyhow::ensure!(length > 0, "the stream ended {left} bytes too soon");
        context.update(&chunk[..length]);
        left -= length as u64;
    }
    let mut announced = [0; 32];
    stream.read_exact(&mut announced)?;
    Ok((finish(context)?, announced))
}

fn finish(context: digest::Context) -> Result<[u8; 32]> {
    Ok(context.finish().as_ref().try_into()?)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
