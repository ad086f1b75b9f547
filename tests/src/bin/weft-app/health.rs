//! A gRPC server that knows one answer: to the standard's question for its health, that it serves.

use crate::serve;
use anyhow::Result;
use bytes::Bytes;
use clap::Args;
use http_body_util::{BodyExt, Full};
use hyper::{
    HeaderMap, Request, Response, body::Incoming, header::HeaderValue, server::conn::http2,
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use std::convert::Infallible;
use tokio::net::{TcpListener, TcpStream};

/// The message of five bytes' head, not compressed, that says `status: SERVING`.
const SERVING: &[u8] = &[0, 0, 0, 0, 2, 0x08, 1];

#[derive(Args)]
pub struct Options {
    /// The port, of both families
    #[arg(long, default_value_t = 9000)]
    port: u16,
}

pub fn run(options: &Options) -> Result<Value> {
    let listener = serve::listen(options.port)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(accept(listener, options.port))
}

async fn accept(listener: std::net::TcpListener, port: u16) -> Result<Value> {
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    serve::ready(port);
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            continue;
        };
        tokio::spawn(connection(stream));
    }
}

async fn connection(stream: TcpStream) {
    let answer = service_fn(|_: Request<Incoming>| async {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        let body = Full::new(Bytes::from_static(SERVING)).with_trailers(async { Some(Ok(trailers)) });
        let mut response = Response::new(body);
        response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
        Ok::<_, Infallible>(response)
    });
    // A client that goes away in the middle is its own affair.
    let _ = http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), answer).await;
}
