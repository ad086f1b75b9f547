//! A connection that is seen while it lasts.

use super::super::{report::Report, stage::PORT, tables::Teller};
use anyhow::{Result, ensure};
use serde_json::json;
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};
use weft_tests::{Loopback, eventually};

/// How long anything here may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Holds a connection and asks both agents for it.
pub fn show(teller: &Teller, mesh: &Loopback, report: &mut Report) {
    teller.chapter("Live", "a connection from web to reviews, held open");
    let (from, to) = ("bookshop/web", "bookshop/reviews");
    let shown = report.flows.len();
    let told = &mut report.flows;
    report.claims.try_one("a live connection is listed by both agents while it lasts", || {
        let server = SocketAddr::new(mesh.pod(to)?.addresses.v4.into(), PORT).to_string();
        let held = open(mesh.doors(from)?.connect, &server)?;
        for pod in [from, to] {
            let connection = eventually(PATIENCE, || {
                let all = mesh.agent_of(pod)?.list(&["connections"])?;
                let is_it = |c: &&serde_json::Value| c["destination"]["address"] == *server;
                let found = all.iter().find(is_it).cloned();
                ensure!(found.is_some(), "the agent of {pod} lists {}", json!(all));
                Ok(found)
            })?;
            told.push(json!({ "event": "live", "verdict": "allowed", "connection": connection }));
        }
        drop(held);
        for pod in [from, to] {
            eventually(PATIENCE, || {
                let all = mesh.agent_of(pod)?.list(&["connections"])?;
                ensure!(
                    all.iter().all(|c| c["destination"]["address"] != *server),
                    "{} is still there",
                    json!(all)
                );
                Ok(())
            })?;
        }
        Ok(format!("{from} → {server}, and gone when it was closed"))
    });
    teller.flows(&told[shown..]);
}

/// A tunnel through the HTTP CONNECT listener at `door`, of which nothing is asked yet.
fn open(door: SocketAddr, to: &str) -> Result<TcpStream> {
    let mut stream = TcpStream::connect_timeout(&door, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(format!("CONNECT {to} HTTP/1.1\r\nhost: {to}\r\n\r\n").as_bytes())?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    ensure!(head.starts_with(b"HTTP/1.1 200 "), "CONNECT was answered {}", String::from_utf8_lossy(&head));
    Ok(stream)
}
