//! TCP servers. Each prints a line when a connection has ended: who it was, and how it ended.

use crate::{bulk, outcome, throughput};
use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};
use std::{
    io,
    net::{Ipv6Addr, SocketAddr},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

#[derive(Args)]
pub struct Options {
    /// What it does with a connection
    #[arg(value_enum)]
    manner: Manner,
    /// The port, of both families
    #[arg(long)]
    port: u16,
    /// Do not print a line for each connection
    #[arg(long)]
    quiet: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Manner {
    /// Send back what comes
    Echo,
    /// Speak first, then echo
    Greet,
    /// Read up to the client's end and then answer; or be the first to end, when the client asks with `S`
    HalfClose,
    /// Reset after the first byte
    Reset,
    /// Swallow everything and then say how much it was
    Sink,
    /// Send and receive at the same time, with checksums
    Bulk,
}

/// A listening socket for IPv4 and IPv6, with a backlog that does not decide the benchmark.
pub fn listen(port: u16) -> Result<std::net::TcpListener> {
    listen_at((Ipv6Addr::UNSPECIFIED, port).into())
}

/// A listening socket at one address; the unspecified one of IPv6 is every address of both families.
pub fn listen_at(at: SocketAddr) -> Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(at), Type::STREAM, None)?;
    if at.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    socket.bind(&at.into()).with_context(|| format!("cannot listen at {at}"))?;
    socket.listen(4096)?;
    Ok(socket.into())
}

/// Prints that the server listens.
pub fn ready(port: u16) {
    println!("{}", json!({ "ready": port }));
}

pub fn run(options: Options) -> Result<Value> {
    let listener = listen(options.port)?;
    match options.manner {
        Manner::Sink => {
            ready(options.port);
            throughput::serve(&listener)
        }
        Manner::Bulk => {
            ready(options.port);
            bulk::serve(&listener)
        }
        _ => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            tokio::task::LocalSet::new().block_on(&runtime, accept(listener, options))
        }
    }
}

async fn accept(listener: std::net::TcpListener, options: Options) -> Result<Value> {
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    ready(options.port);
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                tokio::task::spawn_local(connection(stream, peer, options.manner, options.quiet));
            }
            Err(error) => {
                println!("{}", json!({ "accept": outcome::name(&error) }));
                // Out of files: give connections time to end.
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }
}

async fn connection(mut stream: TcpStream, peer: SocketAddr, manner: Manner, quiet: bool) {
    let local = stream.local_addr().ok();
    stream.set_nodelay(true).ok();
    let mut received = 0;
    let result = match manner {
        Manner::Greet => greet(&mut stream, &mut received).await,
        Manner::HalfClose => half_close(&mut stream, &mut received).await,
        Manner::Reset => reset(&mut stream).await,
        Manner::Echo | Manner::Sink | Manner::Bulk => echo(&mut stream, &mut received).await,
    };
    if !quiet {
        let end = result.as_ref().map_or_else(outcome::name, |()| "closed".into());
        println!(
            "{}",
            json!({
                "peer": crate::http::canonical(peer),
                "local": local.map(crate::http::canonical),
                "received": received,
                "end": end,
            })
        );
    }
}

async fn echo(stream: &mut TcpStream, received: &mut u64) -> io::Result<()> {
    let mut buffer = [0; 4096];
    loop {
        let length = stream.read(&mut buffer).await?;
        if length == 0 {
            return Ok(());
        }
        *received += length as u64;
        stream.write_all(&buffer[..length]).await?;
    }
}

async fn greet(stream: &mut TcpStream, received: &mut u64) -> io::Result<()> {
    stream.write_all(crate::checks::GREETING).await?;
    echo(stream, received).await
}

/// Reads to the client's end and answers with the number of bytes; when the first byte is `S`, ends its own direction
/// at once, with that same byte as farewell.
async fn half_close(stream: &mut TcpStream, received: &mut u64) -> io::Result<()> {
    let mut buffer = [0; 4096];
    let server_first = stream.peek(&mut buffer[..1]).await? == 1 && buffer[0] == b'S';
    if server_first {
        stream.write_all(b"S").await?;
        stream.shutdown().await?;
    }
    loop {
        let length = stream.read(&mut buffer).await?;
        *received += length as u64;
        if length == 0 {
            break;
        }
    }
    if !server_first {
        // Long enough that a proxy which takes a half-close for a close has shown it.
        tokio::time::sleep(Duration::from_millis(100)).await;
        stream.write_all(format!("{received}").as_bytes()).await?;
    }
    Ok(())
}

async fn reset(stream: &mut TcpStream) -> io::Result<()> {
    stream.read_u8().await?;
    socket2::SockRef::from(&*stream).set_linger(Some(Duration::ZERO))
}
