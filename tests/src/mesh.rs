//! A whole mesh on one machine: the cluster, its applications, the control plane and an agent per node.

use crate::{Agent, Cluster, Control, Manifests, Pod, Process, Run, app};
use anyhow::{Context, Result};
use serde_json::{Map, Value};
use std::{collections::BTreeMap, net::SocketAddr, path::Path};

/// A running mesh. Fields are dropped in order: the processes before the namespaces that they are in.
#[derive(Debug)]
pub struct Mesh {
    /// The agents, by node.
    pub agents: BTreeMap<String, Agent>,
    /// The control plane.
    pub control: Control,
    /// What the pods' containers run.
    pub applications: Vec<Process>,
    /// Nodes, pods and links.
    pub cluster: Cluster,
}

/// What the mesh's processes are told beyond the usual.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// More flags for `weft-control run`.
    pub control: Vec<&'static str>,
    /// More keys for the configuration of every agent.
    pub agent: Map<String, Value>,
}

impl Mesh {
    /// The bookshop of `examples/bookshop`, meshed and with its applications running.
    pub fn bookshop(purpose: &str) -> Result<Self> {
        Self::bookshop_with(purpose, &Options::default())
    }

    /// The bookshop, with processes that are told more than usual.
    pub fn bookshop_with(purpose: &str, options: &Options) -> Result<Self> {
        let manifests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/bookshop");
        let cluster = Cluster::build(Run::unique(purpose)?, Manifests::read(&manifests)?)?;
        cluster.run.show_logs();
        let applications = cluster.start_applications()?;
        Self::join_with(cluster, applications, options)
    }

    /// Starts the mesh's own processes on a cluster whose applications may be running already: nothing about those
    /// changes.
    pub fn join(cluster: Cluster, applications: Vec<Process>) -> Result<Self> {
        Self::join_with(cluster, applications, &Options::default())
    }

    /// Like [`Mesh::join`], with processes that are told more than usual.
    pub fn join_with(cluster: Cluster, applications: Vec<Process>, options: &Options) -> Result<Self> {
        let control = Control::start_with(&cluster, &options.control)?;
        let mut agents = BTreeMap::new();
        for (name, node) in &cluster.nodes {
            agents.insert(name.clone(), Agent::begin(&cluster, &control, node, &options.agent)?);
        }
        // All of them load their kernel programs at the same time.
        agents.values_mut().try_for_each(Agent::wait_ready)?;
        Ok(Self { agents, control, applications, cluster })
    }

    /// The agent of a node.
    pub fn agent(&mut self, node: &str) -> Result<&mut Agent> {
        self.agents.get_mut(node).with_context(|| format!("no agent on {node}"))
    }

    /// The pod `<namespace>/<name>`.
    pub fn pod(&self, key: &str) -> Result<&Pod> {
        self.cluster.pod(key)
    }

    /// One HTTP GET from a pod to an address.
    pub fn get(&self, from: &str, to: SocketAddr) -> Result<Value> {
        app::run(self.pod(from)?, &["get", &to.to_string()])
    }

    /// Leaves everything running, until somebody removes the run by its name.
    pub fn keep(self) -> Result<()> {
        self.cluster.run.keep()?;
        self.agents.into_values().for_each(Agent::detach);
        self.control.detach();
        self.applications.into_iter().for_each(Process::detach);
        Ok(())
    }
}
