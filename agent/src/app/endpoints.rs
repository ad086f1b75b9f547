//! Where the agent answers questions about itself: the command line's socket, admin, metrics, readiness.

use super::AppError;
use crate::{
    admin::{
        self, Admin,
        http::{AdminRoutes, MetricsRoutes, ReadyRoutes, serve},
    },
    config::Config,
};
use serde_json::json;
use socket2::{Domain, Protocol, Socket, Type};
use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
};
use tokio::{net::TcpListener, task::JoinSet};

/// Waiting for a connection: probes and people are few.
const BACKLOG: i32 = 128;

/// Starts all of them; they end when the set is dropped.
pub fn start(config: &Config, admin: &Arc<Admin>) -> Result<JoinSet<()>, AppError> {
    let (people, scrapers, probes) =
        (listen(config.admin)?, listen(config.metrics)?, listen(config.readiness)?);
    let all = [("admin", &people), ("metrics", &scrapers), ("readiness", &probes)];
    if let Err(error) = write_addresses(config, all) {
        // Who is told the ports knows them; whoever is not finds them here.
        let [admin, metrics, readiness] = all.map(|(_, listener)| listener.local_addr().ok());
        tracing::warn!(%error, ?admin, ?metrics, ?readiness, "going on without");
    }
    let mut tasks = JoinSet::new();
    tasks.spawn(serve(people, AdminRoutes(admin.clone())));
    tasks.spawn(serve(scrapers, MetricsRoutes(admin.telemetry.clone())));
    tasks.spawn(serve(probes, ReadyRoutes(admin.ready.clone())));
    tasks.spawn(command_line(config.admin_socket.clone(), admin.clone()));
    Ok(tasks)
}

async fn command_line(path: PathBuf, admin: Arc<Admin>) {
    if let Err(error) = admin::serve(&path, admin).await {
        tracing::error!(%error, "the command line cannot be served");
    }
}

/// Listens at `at`, beside an agent that is being followed and still does the same.
fn listen(at: SocketAddr) -> Result<TcpListener, AppError> {
    let bound = match bind(at) {
        // The kernel was started without IPv6.
        Err(e) if e.raw_os_error() == Some(libc::EAFNOSUPPORT) && at.ip().is_unspecified() => {
            bind((Ipv4Addr::UNSPECIFIED, at.port()).into())
        }
        bound => bound,
    };
    bound.map_err(|source| AppError::Listen { at, source })
}

fn bind(at: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(at), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    if at.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.bind(&at.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Says in a file where the agent listens, for those who let the kernel choose the ports.
fn write_addresses(config: &Config, all: [(&str, &TcpListener); 3]) -> Result<(), AppError> {
    let path = config.state_dir.join("addresses.json");
    let mut addresses = serde_json::Map::new();
    for (name, listener) in all {
        let at = listener.local_addr().map_err(|source| AppError::Write { path: path.clone(), source })?;
        addresses.insert(name.into(), json!(at.to_string()));
    }
    let written = std::fs::write(&path, format!("{:#}\n", serde_json::Value::Object(addresses)));
    written.map_err(|source| AppError::Write { path, source })
}
