//! `weft-agent` on a node, as a process of its own, and as its own command line.

use crate::{Cluster, Node, Process, binaries, cluster::CONTROL, control::Control, eventually, http, sweep};
use anyhow::{Context, Result, bail, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Map, Value, json};
use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

/// How long it may take to be ready.
const START: Duration = Duration::from_secs(20);

/// How long a question to it may take.
const ANSWER: Duration = Duration::from_secs(30);

/// The agent of one node.
#[derive(Debug)]
pub struct Agent {
    node: Node,
    config: PathBuf,
    process: Process,
}

impl Agent {
    /// Starts the agent of a node, for the pods that the manifests put there, and waits until it is ready.
    pub fn start(cluster: &Cluster, control: &Control, node: &Node) -> Result<Self> {
        let mut agent = Self::begin(cluster, control, node, &Map::new())?;
        agent.wait_ready()?;
        Ok(agent)
    }

    /// Like [`Agent::start`], with keys of the configuration that are not the harness's own, and without waiting for
    /// anything.
    pub fn begin(
        cluster: &Cluster,
        control: &Control,
        node: &Node,
        settings: &Map<String, Value>,
    ) -> Result<Self> {
        let config = configure(cluster, control, node, settings)?;
        let process = spawn(node, &config)?;
        Ok(Self { node: node.clone(), config, process })
    }

    /// The process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// The id of the process that was started; others may descend from it.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// The id of the worker, the process that carries connections.
    pub fn worker(&self) -> Result<u32> {
        let keeper = self.process.id();
        let children = fs::read_to_string(format!("/proc/{keeper}/task/{keeper}/children"))?;
        Ok(children.split_whitespace().next().context("the keeper has no worker")?.parse()?)
    }

    /// Kills the worker as a crash would; its keeper starts another. The id of the killed one.
    pub fn crash_worker(&self) -> Result<u32> {
        let worker = self.worker()?;
        kill(Pid::from_raw(worker.cast_signed()), Signal::SIGKILL)?;
        Ok(worker)
    }

    /// Sets how many files the worker may have open: `room` more than it has now, or as many as the host's limit allows. The
    /// limit that holds from now on.
    pub fn limit_files(&self, room: Option<usize>) -> Result<usize> {
        let worker = self.worker()?;
        let open = fs::read_dir(format!("/proc/{worker}/fd"))?.count();
        let hard = fs::read_to_string(format!("/proc/{worker}/limits"))?;
        let hard = hard.lines().find(|line| line.starts_with("Max open files")).context("no limit")?;
        let hard: usize = hard.split_whitespace().nth(4).context("no hard limit")?.parse()?;
        let limit = room.map_or(hard, |room| open + room);
        let set = Command::new("prlimit")
            .args(["--pid", &worker.to_string(), &format!("--nofile={limit}:{hard}")])
            .status()
            .context("cannot run prlimit (util-linux)")?;
        ensure!(set.success(), "prlimit: {set}");
        Ok(limit)
    }

    /// Starts it again after it was stopped or killed, without waiting for anything.
    pub fn start_again(&mut self) -> Result<()> {
        self.process = spawn(&self.node, &self.config)?;
        Ok(())
    }

    /// Starts a second process beside the running one, which takes over; the old one is given back.
    pub fn take_over(&mut self) -> Result<Process> {
        let successor = spawn(&self.node, &self.config)?;
        Ok(std::mem::replace(&mut self.process, successor))
    }

    /// Waits until its readiness endpoint says so.
    pub fn wait_ready(&mut self) -> Result<()> {
        let to = SocketAddr::from((Ipv4Addr::LOCALHOST, 15021));
        eventually(START, || {
            ensure!(self.process.is_running()?, "{} ended:\n{}", self.process.name(), self.process.log()?);
            let (status, body) = http::get(&self.node.netns, to, "/healthz/ready")?;
            ensure!(status == 200, "{} is not ready: {}", self.process.name(), body.trim());
            Ok(())
        })
    }

    /// The Prometheus metrics.
    pub fn metrics(&self) -> Result<String> {
        let to = SocketAddr::from((Ipv4Addr::LOCALHOST, 15020));
        Ok(http::get(&self.node.netns, to, "/metrics")?.1)
    }

    /// What `weft-agent <args> --output json` prints.
    pub fn ask(&self, args: &[&str]) -> Result<Value> {
        let said = self.run(&[args, &["--output", "json"]].concat())?;
        serde_json::from_str(&said).with_context(|| format!("weft-agent {} printed {said:?}", args.join(" ")))
    }

    /// Runs `weft-agent <args>` against this agent, and gives what it printed.
    pub fn run(&self, args: &[&str]) -> Result<String> {
        let socket = admin_socket(&self.config)?;
        let args = [args, &["--socket", &socket]].concat();
        let output = self.node.output(binaries::find("weft-agent")?, &args, ANSWER)?;
        if !output.status.success() {
            bail!("weft-agent {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Takes everything of the agent off its node, as `weft-agent uninstall` does; what that printed.
    pub fn uninstall(&self) -> Result<String> {
        let config = self.config.to_str().context("a path is not UTF-8")?;
        self.run(&["uninstall", "--yes", "--config", config])
    }

    /// The items that `weft-agent <args> --output json` lists.
    pub fn list(&self, args: &[&str]) -> Result<Vec<Value>> {
        items(self.ask(args)?, args)
    }

    /// The command that a person types to ask this agent.
    pub fn command_line(&self) -> Result<String> {
        let program = binaries::find("weft-agent")?;
        Ok(format!("{} --socket {}", program.display(), admin_socket(&self.config)?))
    }

    /// Lets it run on when this value goes.
    pub fn detach(self) {
        self.process.detach();
    }
}

/// Writes the agent's configuration and the list of its pods; the path of the configuration.
fn configure(
    cluster: &Cluster,
    control: &Control,
    node: &Node,
    settings: &Map<String, Value>,
) -> Result<PathBuf> {
    let directory = cluster.run.directory().join(&node.name);
    fs::create_dir_all(&directory)?;
    let here = cluster.pods.values().filter(|pod| pod.manifest.node == node.name);
    let pods: Vec<_> = here
        .map(|pod| {
            json!({
                "namespace": pod.manifest.namespace,
                "name": pod.manifest.name,
                "netns": pod.netns.path(),
            })
        })
        .collect();
    // YAML's own subset, and no question of quoting.
    fs::write(directory.join("pods.yaml"), json!({ "pods": pods }).to_string())?;
    let mut config = json!({
        "node": node.name,
        "nodeIp": node.manifest.addresses.v4,
        "control": {
            "address": format!("https://{}:{}", cluster.control.manifest.addresses.v4, CONTROL.port),
            "root": control.root(),
            "token": control.token(&node.name),
        },
        "pods": directory.join("pods.yaml"),
        "stateDir": directory,
        "cacheDir": directory.join("cache"),
        "pinDir": Path::new(sweep::BPFFS).join(cluster.run.name()).join(&node.name),
        "cgroup": node.cgroup(),
    });
    if let Some(config) = config.as_object_mut() {
        config.extend(settings.clone());
    }
    let path = directory.join("agent.yaml");
    fs::write(&path, serde_json::to_string_pretty(&config)?)?;
    Ok(path)
}

fn spawn(node: &Node, config: &Path) -> Result<Process> {
    let config = config.to_str().context("a path is not UTF-8")?;
    let name = format!("weft-agent.{}", node.name);
    node.spawn(&name, binaries::find("weft-agent")?, &["run", "--config", config])
}

fn admin_socket(config: &Path) -> Result<String> {
    let socket = config.with_file_name("admin.sock");
    Ok(socket.to_str().context("a path is not UTF-8")?.to_owned())
}

/// The items in an answer to `weft-agent <args> --output json`.
pub(crate) fn items(mut answer: Value, args: &[&str]) -> Result<Vec<Value>> {
    let items = if answer.is_array() { answer } else { answer["items"].take() };
    match items {
        Value::Array(items) => Ok(items),
        other => bail!("weft-agent {} gave no list but {other}", args.join(" ")),
    }
}
