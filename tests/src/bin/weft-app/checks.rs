//! Clients that look closely at how a connection begins and ends.

use crate::outcome;
use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use serde_json::{Value, json};
use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    thread,
    time::Duration,
};

/// What a server says that speaks first.
pub const GREETING: &[u8] = b"220 ready\r\n";

/// How long a client waits for a byte.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Side {
    Client,
    Server,
}

/// A blocking connection with limits on every wait.
pub fn connect(to: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&to, PATIENCE).context("connect")?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

pub fn greet(to: SocketAddr) -> Result<Value> {
    let mut stream = connect(to)?;
    let mut greeting = [0; GREETING.len()];
    stream.read_exact(&mut greeting).context("greeting")?;
    stream.write_all(b"hello")?;
    let mut echo = [0; 5];
    stream.read_exact(&mut echo).context("echo")?;
    Ok(json!({ "ok": greeting == GREETING && &echo == b"hello" }))
}

pub fn half_close(to: SocketAddr, first: Side) -> Result<Value> {
    const WORDS: usize = 10;
    const WORD: &[u8] = b"Some words after the other side has ended.";
    let mut stream = connect(to)?;
    match first {
        Side::Client => {
            stream.write_all(b"client first")?;
            stream.shutdown(Shutdown::Write)?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).context("answer after the half-close")?;
            Ok(json!({ "ok": answer == "12", "answer": answer }))
        }
        Side::Server => {
            stream.write_all(b"S")?;
            let mut farewell = Vec::new();
            stream.read_to_end(&mut farewell).context("the server's end")?;
            ensure!(farewell == b"S", "the server said {farewell:?}");
            for _ in 0..WORDS {
                stream.write_all(WORD).context("writing after the server's end")?;
                thread::sleep(Duration::from_millis(10));
            }
            // What arrived is for the server's log to say.
            Ok(json!({ "ok": true, "sent": 1 + WORDS * WORD.len() }))
        }
    }
}

pub fn reset(to: SocketAddr, by: Side) -> Result<Value> {
    let mut stream = connect(to)?;
    stream.write_all(b"x")?;
    let mut answer = [0; 1];
    match by {
        Side::Client => {
            stream.read_exact(&mut answer).context("echo")?;
            socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
            Ok(json!({ "ok": true }))
        }
        Side::Server => {
            let end = match stream.read_exact(&mut answer) {
                Ok(()) => "DATA".into(),
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => "EOF".into(),
                Err(error) => outcome::name(&error),
            };
            Ok(json!({ "ok": end == "ECONNRESET", "error": end }))
        }
    }
}
