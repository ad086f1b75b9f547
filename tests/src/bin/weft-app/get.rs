//! One HTTP GET, told in full: the addresses that the client's socket shows, the answer, how long each step took.

use crate::via;
use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::{Value, json};
use socket2::{Domain, Protocol, Socket, Type};
use std::{
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpStream},
    time::{Duration, Instant},
};

#[derive(Args)]
pub struct Options {
    /// Where to: IP:PORT or HOST:PORT
    to: String,
    /// The path
    #[arg(default_value = "/")]
    path: String,
    /// A request header, `name: value`
    #[arg(long)]
    header: Vec<String>,
    /// Bind to this address first
    #[arg(long)]
    from: Option<IpAddr>,
    /// Bind to this port first
    #[arg(long, default_value_t = 0)]
    from_port: u16,
    /// Bind to this device first
    #[arg(long)]
    device: Option<String>,
    /// Ask for Multipath TCP
    #[arg(long)]
    mptcp: bool,
    /// Seconds to wait for each step
    #[arg(long, default_value_t = 5.0)]
    patience: f64,
    #[command(flatten)]
    via: via::Options,
}

pub fn run(options: &Options) -> Result<Value> {
    let begun = Instant::now();
    let mut stream = connect(options).context("connect")?;
    options.via.open(&mut stream, &options.to)?;
    let connected = begun.elapsed();
    let (local, peer) = (stream.local_addr()?, stream.peer_addr().context("getpeername")?);
    let mut request =
        format!("GET {} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n", options.path, options.to);
    for header in &options.header {
        request += &format!("{header}\r\n");
    }
    stream.write_all((request + "\r\n").as_bytes()).context("request")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).context("answer")?;
    let (status, body) = parse(&answer)?;
    Ok(json!({
        "ok": status == 200,
        "status": status,
        "local": local,
        "peer": peer,
        "connect_us": connected.as_micros() as u64,
        "total_us": begun.elapsed().as_micros() as u64,
        "body": serde_json::from_str(body).unwrap_or_else(|_| Value::from(body)),
    }))
}

fn connect(options: &Options) -> Result<TcpStream> {
    let to = options.via.first_hop(&options.to)?;
    let patience = Duration::from_secs_f64(options.patience);
    let protocol = options.mptcp.then_some(Protocol::MPTCP);
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, protocol)?;
    if let Some(device) = &options.device {
        socket.bind_device(Some(device.as_bytes())).context("device")?;
    }
    if options.from.is_some() || options.from_port != 0 {
        let any: IpAddr = if to.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
        socket.set_reuse_address(true)?;
        socket.bind(&SocketAddr::new(options.from.unwrap_or(any), options.from_port).into())?;
    }
    socket.connect_timeout(&to.into(), patience)?;
    let stream: TcpStream = socket.into();
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    Ok(stream)
}

/// The status and the body of a whole answer.
fn parse(answer: &[u8]) -> Result<(u16, &str)> {
    if answer.is_empty() {
        return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof)).context("no answer");
    }
    let text = std::str::from_utf8(answer)?;
    let Some((head, body)) = text.split_once("\r\n\r\n") else { bail!("the answer has no end of headers") };
    let status = head.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)).context("not HTTP/1.1")?;
    Ok((status.parse()?, body))
}
