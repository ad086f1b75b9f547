//! An HTTP/1.1 server that tells its caller what it saw.

use crate::serve;
use anyhow::Result;
use bytes::Bytes;
use clap::Args;
use http_body_util::Full;
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    convert::Infallible,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};
use tokio::net::{TcpListener, TcpStream};

#[derive(Args)]
pub struct Options {
    /// The name that it gives
    #[arg(long)]
    name: String,
    /// The port, of both families
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// Listen at this address only
    #[arg(long, default_value = "::")]
    host: IpAddr,
}

/// The address with a v4-mapped one written as IPv4.
pub fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

pub fn run(options: Options) -> Result<Value> {
    let listener = serve::listen_at(SocketAddr::new(options.host, options.port))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tokio::task::LocalSet::new().block_on(&runtime, accept(listener, options))
}

async fn accept(listener: std::net::TcpListener, options: Options) -> Result<Value> {
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let name: Arc<str> = options.name.into();
    serve::ready(options.port);
    let mut accepted: u64 = 0;
    loop {
        let Ok((stream, peer)) = listener.accept().await else {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            continue;
        };
        accepted += 1;
        tokio::task::spawn_local(connection(stream, canonical(peer), name.clone(), accepted));
    }
}

async fn connection(stream: TcpStream, peer: SocketAddr, name: Arc<str>, number: u64) {
    let Ok(local) = stream.local_addr().map(canonical) else { return };
    stream.set_nodelay(true).ok();
    let answer = service_fn(move |request: Request<Incoming>| {
        let body = match request.uri().path() {
            // What the benchmarks ask for: nothing to format.
            "/ping" => Bytes::from_static(b"pong\n"),
            _ => Bytes::from(describe(&request, &name, number, (peer, local))),
        };
        async { Ok::<_, Infallible>(Response::new(Full::new(body))) }
    });
    // A client that goes away in the middle is its own affair.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
}

/// What the server saw. `number` counts the connections that it has accepted, this one included, so that others can tell
/// whether one of theirs was among them.
fn describe(
    request: &Request<Incoming>,
    name: &str,
    number: u64,
    (peer, local): (SocketAddr, SocketAddr),
) -> String {
    let headers: BTreeMap<_, _> = request
        .headers()
        .iter()
        .map(|(name, value)| (name.as_str(), String::from_utf8_lossy(value.as_bytes())))
        .collect();
    json!({
        "name": name,
        "connection": number,
        "peer": peer,
        "local": local,
        "path": request.uri().path(),
        "headers": headers,
    })
    .to_string()
}
