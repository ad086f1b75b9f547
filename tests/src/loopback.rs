//! A whole mesh for an ordinary user: the same manifests, binaries and policies, with explicit listeners in place of
//! capture, on loopback addresses in place of namespaces.
//!
//! Each pod has a loopback address of its own, on which its application and the agent's listeners for it stand. All that
//! goes from an agent to an agent passes a [`Recorder`].

mod agent;

pub use agent::{Doors, LoopbackAgent};

use crate::{Manifests, Process, binaries, control, manifests::PodManifest, process, recorder::Recorder};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    os::unix::{fs::DirBuilderExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

/// The port of HBONE, where the recorder stands in for the agents.
const HBONE: u16 = 15008;

/// How long a process may take to be ready.
const START: Duration = Duration::from_secs(20);

/// How long a client may take.
const CALL: Duration = Duration::from_secs(30);

/// The running mesh. Fields are dropped in order, the directory last.
#[derive(Debug)]
pub struct Loopback {
    /// The agents, by node.
    pub agents: BTreeMap<String, LoopbackAgent>,
    /// The control plane.
    pub control: Process,
    /// What the pods' containers run.
    pub applications: Vec<Process>,
    /// What has gone between the agents.
    pub recorder: Recorder,
    /// What it was built from.
    pub manifests: Manifests,
    hosts: Hosts,
    directory: Directory,
}

impl Loopback {
    /// Starts the mesh that the manifests describe, with its files in `directory`, which must not exist yet and is removed
    /// in the end. `started` is told of each process group that begins.
    pub fn start(manifests: Manifests, directory: &Path, started: impl Fn(u32)) -> Result<Self> {
        let directory = Directory::make(directory)?;
        let hosts = Hosts::of(&manifests);
        let applications = start_applications(&manifests, &hosts, &directory, &started)?;
        let meshed: Vec<_> = manifests.pods.values().filter(|pod| manifests.is_meshed(pod)).collect();
        let mut between = Vec::new();
        for pod in &meshed {
            let at = SocketAddr::new(hosts.of_pod(pod)?, HBONE);
            let listener = TcpListener::bind(at).with_context(|| format!("cannot listen at {at}"))?;
            between.push((pod.key.clone(), listener));
        }
        let (control, address, state) = start_control(&manifests, &directory)?;
        started(control.id());
        let mut agents = BTreeMap::new();
        for node in manifests.nodes.keys() {
            let begin = agent::Begin {
                node,
                manifests: &manifests,
                hosts: &hosts,
                control: address,
                state: &state,
                directory: &directory.0,
            };
            let agent = LoopbackAgent::start(&begin)?;
            started(agent.id());
            agents.insert(node.clone(), agent);
        }
        let recorder = Recorder::default();
        for (key, listener) in between {
            let node = &manifests.pods[&key].node;
            let agent = agents.get(node).with_context(|| format!("no node {node}"))?;
            recorder.carry(listener, agent.doors(&key)?.hbone);
        }
        let mut mesh = Self { agents, control, applications, recorder, manifests, hosts, directory };
        mesh.agents.values_mut().try_for_each(LoopbackAgent::wait_ready)?;
        Ok(mesh)
    }

    /// The pod `<namespace>/<name>`.
    ///
    /// # Errors
    /// When the manifests have none of that name.
    pub fn pod(&self, key: &str) -> Result<&PodManifest> {
        self.manifests.pods.get(key).with_context(|| format!("the manifests have no pod {key}"))
    }

    /// The loopback address that stands for a pod.
    pub fn host(&self, key: &str) -> Result<IpAddr> {
        self.hosts.of_pod(self.pod(key)?)
    }

    /// The agent of a pod's node.
    pub fn agent_of(&self, key: &str) -> Result<&LoopbackAgent> {
        let node = &self.pod(key)?.node;
        self.agents.get(node).with_context(|| format!("no agent on {node}"))
    }

    /// Where a pod's agent listens for it.
    pub fn doors(&self, key: &str) -> Result<Doors> {
        self.agent_of(key)?.doors(key)
    }

    /// What a client of `weft-app` prints.
    pub fn app(&self, args: &[&str]) -> Result<Value> {
        let mut command = Command::new(binaries::find("weft-app")?);
        command.args(args);
        let output = process::output(command, CALL)?;
        let stdout = String::from_utf8_lossy(&output.stdout);
        let line = stdout.lines().last().unwrap_or_default();
        serde_json::from_str(line).with_context(|| {
            let stderr = String::from_utf8_lossy(&output.stderr);
            format!("weft-app {} printed {stdout:?} and {stderr:?}", args.join(" "))
        })
    }

    /// Where the mesh keeps its files.
    pub fn directory(&self) -> &Path {
        &self.directory.0
    }
}

impl Drop for Loopback {
    fn drop(&mut self) {
        let agents = self.agents.values().map(LoopbackAgent::id);
        let applications = self.applications.iter().map(Process::id);
        agents.chain([self.control.id()]).chain(applications).for_each(process::kill_group);
    }
}

/// A directory that goes with this value.
#[derive(Debug)]
struct Directory(PathBuf);

impl Directory {
    fn make(path: &Path) -> Result<Self> {
        let made = fs::DirBuilder::new().mode(0o700).create(path);
        made.with_context(|| format!("cannot make {}", path.display()))?;
        let directory = Self(path.to_owned());
        fs::create_dir(directory.logs())?;
        Ok(directory)
    }

    fn logs(&self) -> PathBuf {
        self.0.join("logs")
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

/// The loopback address of each pod, out of a block that no other run of this moment uses.
#[derive(Debug)]
pub(crate) struct Hosts(BTreeMap<String, Ipv4Addr>);

impl Hosts {
    fn of(manifests: &Manifests) -> Self {
        let block = std::process::id().to_be_bytes();
        // 127.0.0.0/9 is what people use by hand.
        let host = |index: u8| Ipv4Addr::new(127, 128 | block[2], block[3], index);
        Self(manifests.pods.keys().cloned().zip((1..=254).map(host)).collect())
    }

    pub(crate) fn of_pod(&self, pod: &PodManifest) -> Result<IpAddr> {
        let found = self.0.get(&pod.key).with_context(|| format!("no address is left for {}", pod.key))?;
        Ok((*found).into())
    }
}

/// A command in a process group of its own: Ctrl-C is for us, who then end it.
fn command(program: &str) -> Result<Command> {
    let mut command = Command::new(binaries::find(program)?);
    command.stdin(Stdio::null()).process_group(0);
    Ok(command)
}

fn start_applications(
    manifests: &Manifests,
    hosts: &Hosts,
    directory: &Directory,
    started: &impl Fn(u32),
) -> Result<Vec<Process>> {
    let mut applications = Vec::new();
    for pod in manifests.pods.values() {
        for words in &pod.commands {
            let (program, args) = words.split_first().context("a container without a command")?;
            let mut command = command(program)?;
            command.args(args);
            if args.first().is_some_and(|manner| manner == "http") {
                command.args(["--host", &hosts.of_pod(pod)?.to_string()]);
            }
            let application = Process::start(&pod.key, command, &directory.logs())?;
            started(application.id());
            applications.push(application);
        }
    }
    for application in &mut applications {
        application.wait_for_line(START, |line| line.contains(r#""ready""#))?;
    }
    Ok(applications)
}

/// The control plane, its address, and the directory of its state.
fn start_control(manifests: &Manifests, directory: &Directory) -> Result<(Process, SocketAddr, PathBuf)> {
    let state = directory.0.join("control");
    manifests.nodes.keys().try_for_each(|node| control::invent_token(&state, node))?;
    let mut command = command("weft-control")?;
    command.arg("run").args(["--listen", "127.0.0.1:0", "--monitoring", "127.0.0.1:0"]);
    command.arg("--manifests").arg(&manifests.directory).arg("--state").arg(&state);
    command.arg("--root").arg(control::root(&state));
    let mut control = Process::start("weft-control", command, &directory.logs())?;
    let line = control.wait_for_line(START, |line| line.starts_with("discovery "))?;
    let address: SocketAddr = line.trim_start_matches("discovery ").trim().parse()?;
    ensure!(address.port() != 0, "weft-control says that it listens at {address}");
    Ok((control, address, state))
}
