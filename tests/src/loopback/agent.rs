//! `weft-agent run --explicit`, for the pods of one node.

use super::{CALL, HBONE, Hosts, START, command};
use crate::{Manifests, Process, agent, binaries, control, eventually, process};
use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

/// Where an agent listens for one workload.
#[derive(Clone, Copy, Debug)]
pub struct Doors {
    /// For HBONE to it.
    pub hbone: SocketAddr,
    /// For HTTP CONNECT from it.
    pub connect: SocketAddr,
    /// For SOCKS5 from it.
    pub socks: SocketAddr,
}

/// The agent of one node.
#[derive(Debug)]
pub struct LoopbackAgent {
    directory: PathBuf,
    process: Process,
    doors: Value,
}

/// What an agent begins with.
pub(super) struct Begin<'a> {
    pub(super) node: &'a str,
    pub(super) manifests: &'a Manifests,
    pub(super) hosts: &'a Hosts,
    pub(super) control: SocketAddr,
    pub(super) state: &'a Path,
    pub(super) directory: &'a Path,
}

impl LoopbackAgent {
    /// Starts the agent of a node and waits until its listeners stand, though it may not be ready yet.
    pub(super) fn start(begin: &Begin<'_>) -> Result<Self> {
        let directory = begin.directory.join(begin.node);
        fs::create_dir(&directory)?;
        let config = directory.join("agent.yaml");
        fs::write(&config, serde_json::to_string_pretty(&configuration(begin, &directory)?)?)?;
        let mut run = command("weft-agent")?;
        run.args(["run", "--explicit", "--config"]).arg(&config);
        let name = format!("weft-agent.{}", begin.node);
        let mut process = Process::start(&name, run, &begin.directory.join("logs"))?;
        let doors = eventually(START, || {
            ensure!(process.is_running()?, "{} ended:\n{}", process.name(), process.log()?);
            read_json(&directory.join("explicit.json"))
        })?;
        Ok(Self { directory, process, doors })
    }

    /// The id of the process that was started, and of its group.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Where it listens for the pod `<namespace>/<name>`.
    pub fn doors(&self, key: &str) -> Result<Doors> {
        let is_it = |w: &&Value| {
            let part = |name: &str| w[name].as_str().unwrap_or_default();
            format!("{}/{}", part("namespace"), part("name")) == key
        };
        let found = self.doors["workloads"].as_array().into_iter().flatten().find(is_it);
        let found = found.with_context(|| format!("{key} is not in {}", self.doors))?;
        let at = |role: &str| -> Result<SocketAddr> {
            let text = found[role].as_str().with_context(|| format!("{key} has no {role}"))?;
            Ok(text.parse()?)
        };
        Ok(Doors { hbone: at("hbone")?, connect: at("connect")?, socks: at("socks")? })
    }

    /// The items that `weft-agent <args> --output json` lists.
    pub fn list(&self, args: &[&str]) -> Result<Vec<Value>> {
        agent::items(self.ask(args)?, args)
    }

    /// The command that a person types to ask this agent.
    pub fn command_line(&self) -> Result<String> {
        let program = binaries::find("weft-agent")?;
        Ok(format!("{} --socket {}", program.display(), self.directory.join("admin.sock").display()))
    }

    pub(super) fn wait_ready(&mut self) -> Result<()> {
        eventually(START, || {
            ensure!(self.process.is_running()?, "{} ended:\n{}", self.process.name(), self.process.log()?);
            let status = self.ask(&["status"])?;
            ensure!(status["ready"] == true, "{} is not ready: {status}", self.process.name());
            Ok(())
        })
    }

    fn ask(&self, args: &[&str]) -> Result<Value> {
        let mut command = Command::new(binaries::find("weft-agent")?);
        command.args(args).args(["--output", "json", "--socket"]).arg(self.directory.join("admin.sock"));
        let output = process::output(command, CALL)?;
        if !output.status.success() {
            bail!("weft-agent {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim());
        }
        serde_json::from_slice(&output.stdout)
            .with_context(|| format!("weft-agent {} is no JSON", args.join(" ")))
    }
}

fn read_json(path: &Path) -> Result<Value> {
    let text = fs::read_to_string(path).with_context(|| format!("no {}", path.display()))?;
    Ok(serde_json::from_str(&text)?)
}

fn configuration(begin: &Begin<'_>, directory: &Path) -> Result<Value> {
    let Begin { node, manifests, hosts, control: address, state, .. } = begin;
    let (mut workloads, mut peers) = (Vec::new(), Vec::new());
    for pod in manifests.pods.values() {
        let host = hosts.of_pod(pod)?;
        let meshed = manifests.is_meshed(pod);
        if meshed && pod.node == *node {
            let any = SocketAddr::new(host, 0);
            workloads.push(json!({
                "namespace": pod.namespace,
                "name": pod.name,
                "hbone": any,
                "connect": any,
                "socks": any,
                "deliver": host,
            }));
        }
        let hbone = meshed.then(|| SocketAddr::new(host, HBONE));
        peers.extend(
            pod.addresses.both().map(|address| json!({ "address": address, "hbone": hbone, "plain": host })),
        );
    }
    Ok(json!({
        "node": node,
        "control": {
            "address": format!("https://{address}"),
            "root": control::root(state),
            "token": control::token(state, node),
        },
        "stateDir": directory,
        "cacheDir": directory.join("cache"),
        "admin": "127.0.0.1:0",
        "metrics": "127.0.0.1:0",
        "readiness": "127.0.0.1:0",
        "drainSeconds": 1,
        "explicit": { "workloads": workloads, "peers": peers },
    }))
}
