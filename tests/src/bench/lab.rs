//! A cluster to measure on: a client pod, a server pod beside it and one across the link, and one of three paths between
//! them.

use super::{cpu, relay};
use crate::{
    Agent, Cluster, Manifests, Mesh, Place, Process, Run, app, binaries, eventually, interrupt,
    mesh::Options, netns::sysctl,
};
use anyhow::{Context, Result, bail};
use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    thread,
    time::Duration,
};

const MANIFEST: &str = include_str!("manifests/cluster.yaml");

/// What lies between client and server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// Nothing: veth links and the nodes' forwarding.
    Bare,
    /// A pair of TLS relays in the pods, where the mesh's sockets are too.
    Relay,
    /// The mesh.
    Mesh,
    /// The mesh on nodes of Kubernetes, whose agents guard nothing.
    Unguarded,
    /// The same, guarding what is in the mesh.
    Guarded,
    /// The same, guarding everything.
    AllGuarded,
}

impl Path {
    /// The path in a word or two.
    pub fn describe(self) -> &'static str {
        match self {
            Self::Bare => "bare",
            Self::Relay => "TLS relays",
            Self::Mesh => "mesh",
            Self::Unguarded => "mesh without guard",
            Self::Guarded => "mesh with guard",
            Self::AllGuarded => "mesh with guard of everything",
        }
    }

    /// What its runs are called.
    fn purpose(self) -> &'static str {
        match self {
            Self::Bare => "bench-bare",
            Self::Relay => "bench-relay",
            Self::Mesh => "bench-mesh",
            Self::Unguarded => "bench-unguarded",
            Self::Guarded => "bench-guarded",
            Self::AllGuarded => "bench-all-guarded",
        }
    }

    /// How the mesh's agents are told, where there is one.
    fn options(self) -> Option<Options> {
        let guard = match self {
            Self::Bare | Self::Relay => return None,
            Self::Mesh => return Some(Options::default()),
            Self::Unguarded => "off",
            Self::Guarded => "mesh",
            Self::AllGuarded => "all",
        };
        let told = [("pods", "kube"), ("guard", guard)];
        let agent = told.map(|(key, value)| (key.to_owned(), value.into())).into_iter().collect();
        Some(Options { agent, ..Options::default() })
    }
}

/// Which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Server {
    /// The one on the client's node.
    Near,
    /// The one across the link.
    Far,
}

/// What the server does, each on a port of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Answers HTTP requests.
    Http = 8080,
    /// Sends back what it got.
    Echo = 8007,
    /// Swallows what it got.
    Sink = 8009,
}

const WORKS: [Work; 3] = [Work::Http, Work::Echo, Work::Sink];
/// What a work's port is raised by to get its relay's.
const RELAYED: u16 = 10_000;

/// The labs that stand, one for each path at most. Each has processes, namespaces and a cgroup of its own; one that is
/// not measured is idle.
#[derive(Debug, Default)]
pub struct Labs(Vec<Lab>);

impl Labs {
    /// The lab with this path, built when there is none.
    pub fn get(&mut self, path: Path) -> Result<&Lab> {
        let at = match self.0.iter().position(|lab| lab.path == path) {
            Some(at) => at,
            None => {
                self.0.push(Lab::build(path)?);
                self.0.len() - 1
            }
        };
        Ok(&self.0[at])
    }

    /// Takes all of them down.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// A lab with this path whose namespaces have seen no connection yet.
    pub fn fresh(&mut self, path: Path) -> Result<&Lab> {
        self.0.retain(|lab| lab.path != path);
        self.get(path)
    }
}

/// A cluster with its servers and what lies between.
#[derive(Debug)]
pub struct Lab {
    /// What it measures.
    pub path: Path,
    standing: Standing,
}

/// Everything that runs. Fields are dropped in order: processes before the namespaces that they are in.
#[derive(Debug)]
enum Standing {
    Plain { relays: Vec<Process>, _servers: Vec<Process>, cluster: Box<Cluster> },
    Meshed(Box<Mesh>),
}

impl Lab {
    /// Lays everything out in fresh namespaces and starts it.
    pub fn build(path: Path) -> Result<Self> {
        let run = Run::unique(path.purpose())?;
        let directory = run.directory().join("manifests");
        fs::create_dir_all(&directory)?;
        fs::write(directory.join("cluster.yaml"), MANIFEST)?;
        let cluster = Cluster::build(run, Manifests::read(&directory)?)?;
        for pod in cluster.pods.values() {
            pod.netns.run(widen_ports)?;
        }
        let mut servers = start_servers(&cluster)?;
        if matches!(path, Path::Unguarded | Path::Guarded | Path::AllGuarded) {
            // Such agents find a pod by a process in it, as Kubernetes has one in each.
            servers.push(app::serve(cluster.pod("bench/client")?, "echo", Work::Echo as u16)?);
        }
        if let Some(options) = path.options() {
            let mesh = Mesh::join_with(cluster, servers, &options)?;
            return Ok(Self { path, standing: Standing::Meshed(Box::new(mesh)) });
        }
        let relays = if path == Path::Relay { start_relays(&cluster)? } else { Vec::new() };
        let standing = Standing::Plain { relays, _servers: servers, cluster: Box::new(cluster) };
        Ok(Self { path, standing })
    }

    /// The place of the client.
    pub fn client(&self) -> Result<&Place> {
        Ok(self.cluster().pod("bench/client")?)
    }

    /// Where the client finds this work.
    pub fn address(&self, server: Server, work: Work) -> Result<SocketAddr> {
        Ok(match (self.path, server) {
            (Path::Relay, Server::Far) => relayed(Ipv4Addr::LOCALHOST, work),
            _ => SocketAddr::new(pod_address(self.cluster(), server)?.into(), work as u16),
        })
    }

    /// The process ids of what lies between.
    pub fn proxies(&self) -> Vec<u32> {
        match &self.standing {
            Standing::Plain { relays, .. } => relays.iter().map(Process::id).collect(),
            Standing::Meshed(mesh) => mesh.agents.values().map(Agent::id).collect(),
        }
    }

    /// The processor time that all of that has used so far, in seconds.
    pub fn proxies_cpu(&self) -> Result<f64> {
        self.proxies().into_iter().map(cpu::seconds).sum()
    }

    /// Writes a manifest into the directory that the control plane reads.
    pub fn apply(&self, file: &str, text: &str) -> Result<()> {
        self.mesh()?.control.apply(file, text)
    }

    /// Removes a manifest again.
    pub fn delete(&self, file: &str) -> Result<()> {
        self.mesh()?.control.delete(file)
    }

    /// Waits until every agent knows at least so many workloads.
    pub fn wait_for_workloads(&self, count: usize) -> Result<()> {
        const LIMIT: Duration = Duration::from_secs(150);
        const PAUSE: Duration = Duration::from_millis(200);
        for agent in self.mesh()?.agents.values() {
            eventually(LIMIT, || {
                interrupt::check()?;
                // Their number alone: an agent that lists them all would be measured with what that takes.
                let status = agent.ask(&["status"])?;
                let known = status["totals"]["workloads"].as_u64().context("no number of workloads")?;
                if known < count as u64 {
                    thread::sleep(PAUSE);
                    bail!("an agent knows {known} workloads of {count}");
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    fn mesh(&self) -> Result<&Mesh> {
        match &self.standing {
            Standing::Meshed(mesh) => Ok(mesh),
            Standing::Plain { .. } => bail!("there is no mesh on the path \"{}\"", self.path.describe()),
        }
    }

    fn cluster(&self) -> &Cluster {
        match &self.standing {
            Standing::Plain { cluster, .. } => cluster,
            Standing::Meshed(mesh) => &mesh.cluster,
        }
    }
}

fn pod_address(cluster: &Cluster, server: Server) -> Result<Ipv4Addr> {
    let key = match server {
        Server::Near => "bench/near",
        Server::Far => "bench/far",
    };
    Ok(cluster.pod(key)?.manifest.addresses.v4)
}

fn relayed(at: Ipv4Addr, work: Work) -> SocketAddr {
    SocketAddr::new(at.into(), work as u16 + RELAYED)
}

/// Lets a pod make new connections at any rate: all ports, and those of the last second's connections again.
fn widen_ports() -> Result<()> {
    sysctl("net/ipv4/ip_local_port_range", "1024 65535")?;
    sysctl("net/ipv4/ip_local_reserved_ports", "8000-8099,18000-18099,28000-28099")?;
    sysctl("net/ipv4/tcp_tw_reuse", "1")
}

fn start_servers(cluster: &Cluster) -> Result<Vec<Process>> {
    let mut servers = Vec::new();
    for pod in ["bench/near", "bench/far"] {
        let pod = cluster.pod(pod)?;
        for work in WORKS {
            servers.push(match work {
                Work::Http => app::serve_http(pod, work as u16)?,
                Work::Echo => app::serve(pod, "echo", work as u16)?,
                Work::Sink => app::serve(pod, "sink", work as u16)?,
            });
        }
    }
    Ok(servers)
}

/// Starts a pair for every work: the first of each in the client's pod, the second in the far server's, on the same
/// loopbacks that the mesh passes.
fn start_relays(cluster: &Cluster) -> Result<Vec<Process>> {
    let certificates = cluster.run.directory().join("certificates");
    relay::write_certificates(&certificates)?;
    let certificates = certificates.to_str().context("the run's directory is not UTF-8")?;
    let (client, far) = (cluster.pod("bench/client")?, cluster.pod("bench/far")?);
    let mut relays = Vec::new();
    for work in WORKS {
        let meeting = relayed(far.manifest.addresses.v4, work);
        let app = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), work as u16);
        for (pod, role, listen, to) in
            [(far, "server", meeting, app), (client, "client", relayed(Ipv4Addr::LOCALHOST, work), meeting)]
        {
            let name = format!("relay-{role}-{}", work as u16);
            let (listen, to) = (listen.to_string(), to.to_string());
            let args = ["relay", role, &listen, &to, certificates];
            let mut relay = pod.spawn(&name, binaries::find("weft-bench")?, &args)?;
            relay.wait_for_line(Duration::from_secs(10), |line| line.contains("ready"))?;
            relays.push(relay);
        }
    }
    Ok(relays)
}
