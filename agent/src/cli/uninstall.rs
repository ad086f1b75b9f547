//! `uninstall`: the node as it was before.
//!
//! The running agent is told that its time is over, as a successor would tell it, so that it enrols nothing more. Then the
//! programs go at once, and connections are the pods' own again; what the agent carries may end in peace before the
//! rest is taken away.

use super::client::CliError;
use crate::{
    config::{Config, ConfigArgs, ConfigError},
    keeper,
    kernel::{Kernel, KernelError},
    pods::{Netns, older::Notes, routes},
};
use nix::{
    errno::Errno,
    sys::{
        signal::kill,
        socket::{getsockopt, sockopt::PeerCredentials},
    },
    unistd::Pid,
};
use std::{
    collections::BTreeSet,
    fs,
    io::{self, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// What a worker needs beyond its drain.
const REST: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Why a node cannot be cleaned.
#[derive(Debug, thiserror::Error)]
pub enum UninstallError {
    /// It is not known where things are.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The running agent cannot be told.
    #[error("cannot tell the running agent to end: {0}; stop it, then try again")]
    Agent(io::Error),
    /// It goes on.
    #[error("the agent (process {0}) has not ended after its drain; stop it, then try again")]
    Stays(Pid),
    /// The kernel's side.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// A file.
    #[error("cannot remove {path}: {source}", path = path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Takes everything off the node that `args` describe.
pub async fn run(
    yes: bool,
    args: ConfigArgs,
    node: Option<String>,
    out: &mut impl Write,
) -> Result<(), CliError> {
    // Control's address has no default, and nothing is asked of it.
    let control = args.control.or_else(|| Some("https://nowhere".to_owned()));
    let unused = || Some(PathBuf::from("/dev/null"));
    let (control_root, token) = (args.control_root.or_else(unused), args.token.or_else(unused));
    let args = ConfigArgs { node: args.node.or(node), control, control_root, token, ..args };
    let config = Config::load(args).map_err(UninstallError::from)?;
    if !yes {
        return Err(CliError::NotMeant(format!("the node {}", config.node)));
    }
    let worker = worker(&config.admin_socket);
    let ran = keeper::relieve(&config.keeper_socket()).map_err(UninstallError::Agent)?;
    let enrolled = Kernel::detach_all(&config.pin_dir).map_err(UninstallError::from)?;
    writeln!(out, "programs and pins are gone: {} pods have left the mesh", enrolled.len())?;
    if ran && let Some(worker) = worker {
        ended(worker, config.drain + REST).await?;
        writeln!(out, "the agent has ended, and its listeners with it")?;
    }
    // What it may have pinned in its last moments.
    Kernel::detach_all(&config.pin_dir).map_err(UninstallError::from)?;
    let routes = unroute(&enrolled.into_iter().collect()).await;
    writeln!(out, "routes are gone from {routes} pods")?;
    remove(&config.cache_dir, &["state"])?;
    Notes::new(&config.state_dir).forget_all();
    remove(&config.state_dir, &["addresses.json", "drains.json", "admin.sock", "keeper.sock"])?;
    // Shared with the agents of other nodes, where there are such on this machine.
    if let Some(parent) = config.pin_dir.parent() {
        let _ = fs::remove_dir(parent);
    }
    writeln!(out, "the node {} is as it was", config.node)?;
    Ok(())
}

/// The process that answers at the socket.
fn worker(socket: &Path) -> Option<Pid> {
    let stream = std::os::unix::net::UnixStream::connect(socket).ok()?;
    Some(Pid::from_raw(getsockopt(&stream, PeerCredentials).ok()?.pid()))
}

async fn ended(worker: Pid, patience: Duration) -> Result<(), UninstallError> {
    let begun = Instant::now();
    while kill(worker, None) != Err(Errno::ESRCH) {
        if begun.elapsed() > patience {
            return Err(UninstallError::Stays(worker));
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    Ok(())
}

/// Undoes the routing of the namespaces that were enrolled; of how many. One that is gone by now needs nothing.
async fn unroute(enrolled: &BTreeSet<u64>) -> usize {
    let (mut seen, mut done) = (BTreeSet::new(), 0);
    for process in processes() {
        let path = process.join("ns/net");
        let Ok(file) = fs::metadata(&path) else { continue };
        if !seen.insert((file.dev(), file.ino())) {
            continue;
        }
        let Some(netns) = Netns::open(&path).ok().filter(|netns| enrolled.contains(&netns.cookie())) else {
            continue;
        };
        match routes::remove(&netns).await {
            Ok(()) => done += 1,
            Err(error) => eprintln!("weft-agent: {}: {error}", path.display()),
        }
    }
    done
}

/// The host's processes, where they are to be seen.
fn processes() -> impl Iterator<Item = PathBuf> {
    let proc = Path::new("/host/proc");
    let proc = if proc.is_dir() { proc } else { Path::new("/proc") };
    let is_process = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name.to_string_lossy().bytes().all(|b| b.is_ascii_digit()))
    };
    fs::read_dir(proc).into_iter().flatten().flatten().map(|entry| entry.path()).filter(is_process)
}

/// Removes files of ours, and the directory if nothing else is in it: people may have chosen one that they use.
fn remove(directory: &Path, ours: &[&str]) -> Result<(), UninstallError> {
    for path in ours.iter().map(|name| directory.join(name)) {
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(UninstallError::File { path, source });
            }
            _ => {}
        }
    }
    let _ = fs::remove_dir(directory);
    Ok(())
}
