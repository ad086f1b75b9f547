//! The small real applications that run in pods: servers of several manners, and the clients that try them.
//!
//! Everything is printed to standard output as JSON, one value a line. A server's first line is `{"ready":…}`; a client
//! prints one result with `"ok"`, and where that is false the name of the system's error.
#![forbid(unsafe_code)]

mod bulk;
mod checks;
mod connections;
mod get;
mod health;
mod histogram;
mod hold;
mod http;
mod load;
mod outcome;
mod serve;
mod throughput;
mod via;

use clap::{Parser, Subcommand};
use std::{net::SocketAddr, process::ExitCode};

#[derive(Parser)]
#[command(about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// An HTTP/1.1 server that answers with what it saw: addresses, path, headers
    Http(http::Options),
    /// A gRPC server that says of itself that it is healthy
    Health(health::Options),
    /// A TCP server
    Serve(serve::Options),
    /// Do nothing, until told to go
    Pause,
    /// One HTTP GET
    Get(get::Options),
    /// Wait for the server's greeting before the first word (needs `serve greet`)
    Greet { to: SocketAddr },
    /// Close one direction and use the other (needs `serve half-close`)
    HalfClose {
        to: SocketAddr,
        /// Who closes first
        #[arg(long, value_enum, default_value = "client")]
        first: checks::Side,
    },
    /// Reset the connection (needs `serve reset` for the server's side, `serve echo` for the client's)
    Reset {
        to: SocketAddr,
        /// Who resets
        #[arg(long, value_enum, default_value = "client")]
        by: checks::Side,
    },
    /// Send and receive at the same time, with checksums (needs `serve bulk`)
    Bulk {
        to: SocketAddr,
        /// Bytes in each direction
        #[arg(long, default_value_t = 1 << 20)]
        bytes: u64,
    },
    /// Hold many connections and use each of them now and then (needs `serve echo`)
    Hold(hold::Options),
    /// HTTP requests over kept connections: requests a second, latencies
    Load(load::Options),
    /// New connections a second (needs `serve echo`)
    Connections(connections::Options),
    /// Bytes a second over some streams (needs `serve sink`)
    Throughput(throughput::Options),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Http(options) => http::run(options),
        Command::Health(options) => health::run(&options),
        Command::Serve(options) => serve::run(options),
        Command::Pause => pause(),
        Command::Get(options) => get::run(&options),
        Command::Greet { to } => checks::greet(to),
        Command::HalfClose { to, first } => checks::half_close(to, first),
        Command::Reset { to, by } => checks::reset(to, by),
        Command::Bulk { to, bytes } => bulk::run(to, bytes),
        Command::Hold(options) => hold::run(options),
        Command::Load(options) => load::run(&options),
        Command::Connections(options) => connections::run(&options),
        Command::Throughput(options) => throughput::run(&options),
    };
    match result {
        Ok(value) => {
            println!("{value}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("{}", outcome::failed(&error));
            ExitCode::FAILURE
        }
    }
}

fn pause() -> anyhow::Result<serde_json::Value> {
    println!("{}", serde_json::json!({ "ready": null }));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?.recv().await;
        Ok(serde_json::json!({ "ok": true }))
    })
}
