//! The way through an explicit proxy: HTTP CONNECT (RFC 9110, section 9.3.6) or SOCKS5 (RFC 1928).

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream, ToSocketAddrs},
};

/// The longest answer to a CONNECT, in bytes.
const LONGEST_HEAD: usize = 8192;

#[derive(Args)]
#[group(id = "via", multiple = false)]
pub struct Options {
    /// Go through the HTTP CONNECT proxy at this address
    #[arg(long, value_name = "IP:PORT")]
    connect: Option<SocketAddr>,
    /// Go through the SOCKS5 proxy at this address
    #[arg(long, value_name = "IP:PORT")]
    socks: Option<SocketAddr>,
}

impl Options {
    /// Where TCP connects on the way to `to`, an `IP:PORT` or `HOST:PORT`. Names are looked up by the proxy, or by the system
    /// where there is none.
    ///
    /// # Errors
    /// When there is no such name.
    pub fn first_hop(&self, to: &str) -> Result<SocketAddr> {
        match self.connect.or(self.socks) {
            Some(proxy) => Ok(proxy),
            None => {
                let mut found = to.to_socket_addrs().with_context(|| format!("`{to}`"))?;
                found.next().with_context(|| format!("`{to}` has no address"))
            }
        }
    }

    /// Asks the proxy, if there is one, for the way to `to`.
    ///
    /// # Errors
    /// Says how the proxy refused.
    pub fn open(&self, stream: &mut TcpStream, to: &str) -> Result<()> {
        if self.connect.is_some() {
            connect(stream, to)
        } else if self.socks.is_some() {
            socks(stream, to)
        } else {
            Ok(())
        }
    }
}

fn connect(stream: &mut TcpStream, to: &str) -> Result<()> {
    stream.write_all(format!("CONNECT {to} HTTP/1.1\r\nhost: {to}\r\n\r\n").as_bytes())?;
    let mut head = Vec::new();
    // One byte at a time: what follows the head is the server's.
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).context("the proxy's answer")?;
        head.push(byte[0]);
        ensure!(head.len() < LONGEST_HEAD, "the proxy's answer has no end");
    }
    let head = String::from_utf8_lossy(&head);
    let mut lines = head.lines();
    let status = lines.next().unwrap_or_default().trim_start_matches("HTTP/1.1 ");
    if status.starts_with("200 ") {
        return Ok(());
    }
    let reason = lines.find_map(|line| line.strip_prefix("x-weft-reason: ")).unwrap_or("no reason given");
    bail!("CONNECT was answered {status} ({reason})")
}

fn socks(stream: &mut TcpStream, to: &str) -> Result<()> {
    /// What RFC 1928 calls its replies.
    const REPLIES: [&str; 9] = [
        "succeeded",
        "general failure",
        "not allowed",
        "network unreachable",
        "host unreachable",
        "connection refused",
        "TTL expired",
        "command not supported",
        "address type not supported",
    ];
    let mut request = vec![5, 1, 0];
    match to.parse::<SocketAddr>() {
        Ok(SocketAddr::V4(to)) => {
            request.push(1);
            request.extend(to.ip().octets());
            request.extend(to.port().to_be_bytes());
        }
        Ok(SocketAddr::V6(to)) => {
            request.push(4);
            request.extend(to.ip().octets());
            request.extend(to.port().to_be_bytes());
        }
        Err(_) => {
            let (host, port) = to.rsplit_once(':').context("no port")?;
            request.extend([3, u8::try_from(host.len())?]);
            request.extend(host.as_bytes());
            request.extend(port.parse::<u16>()?.to_be_bytes());
        }
    }
    stream.write_all(&[5, 1, 0])?;
    let mut method = [0; 2];
    stream.read_exact(&mut method).context("the proxy's answer")?;
    ensure!(method == [5, 0], "the proxy wants to know who asks");
    stream.write_all(&request)?;
    let mut reply = [0; 10];
    stream.read_exact(&mut reply).context("the proxy's answer")?;
    let name = REPLIES.get(usize::from(reply[1])).copied().unwrap_or("unknown");
    ensure!(reply[1] == 0, "SOCKS5 was answered {} ({name})", reply[1]);
    Ok(())
}
