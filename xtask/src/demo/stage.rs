//! Where the story plays: the bookshop's cluster, and what is asked of it over and over.

use super::calls::{Answer, CALLS};
use anyhow::{Context, Result};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};
use weft_tests::{Capture, Cluster, Manifests, Mesh, Process, Run, app, eventually, wire::Wire};

/// The port of the sink that the measurements send to; the manifests do not use it.
pub const SINK: u16 = 9000;

/// The port of the pods' own applications.
pub const PORT: u16 = 8080;

/// Lays out the bookshop, with its applications running.
pub fn lay_out(run: Run) -> Result<(Cluster, Vec<Process>)> {
    let manifests = Manifests::read(&crate::shell::workspace().join("examples/bookshop"))?;
    let cluster = Cluster::build(run, manifests)?;
    let mut applications = cluster.start_applications()?;
    applications.push(app::serve(cluster.pod("bookshop/reviews")?, "sink", SINK)?);
    Ok((cluster, applications))
}

/// Does something while the link between the nodes is captured.
pub fn captured<T>(cluster: &Cluster, name: &str, act: impl FnOnce() -> Result<T>) -> Result<(T, Wire)> {
    let link = cluster.links.first().context("the manifests have one node only")?;
    let end = &link.ends[0];
    let file = cluster.run.directory().join(format!("{name}.pcap"));
    let capture = Capture::start(&end.netns, &end.interface, &file)?;
    let done = act();
    let wire = capture.stop()?;
    Ok((done?, wire))
}

/// The words that nobody but the two applications may read. Callers without a mesh carry another: theirs is readable.
#[derive(Clone, Debug)]
pub struct Markers {
    /// Carried by callers that belong to the mesh.
    pub meshed: String,
    /// Carried by the others.
    pub other: String,
}

impl Markers {
    /// Words that no earlier run has used.
    pub fn new(phase: &str) -> Self {
        let unique = std::process::id();
        Self {
            meshed: format!("marker-{phase}-meshed-{unique}"),
            other: format!("marker-{phase}-other-{unique}"),
        }
    }

    /// The one for a caller.
    pub fn of(&self, cluster: &Cluster, caller: &str) -> Result<&str> {
        let meshed = cluster.manifests.is_meshed(&cluster.pod(caller)?.manifest);
        Ok(if meshed { &self.meshed } else { &self.other })
    }
}

/// Makes every call in both families to the pods themselves, each with a marker in a header.
pub fn make_calls(cluster: &Cluster, markers: &Markers) -> Result<Vec<Answer>> {
    let mut answers = Vec::new();
    for call in CALLS {
        let from = cluster.pod(call.from)?;
        let header = format!("x-marker: {}", markers.of(cluster, call.from)?);
        for address in cluster.pod(call.to)?.manifest.addresses.both() {
            let asked = SocketAddr::new(address, PORT);
            let before = accepted(cluster, call.to)?;
            let result = app::run(from, &["get", &asked.to_string(), "/", "--header", &header])?;
            // The question itself is one connection.
            let reached = accepted(cluster, call.to)?.saturating_sub(before + 1);
            answers.push(Answer { call, door: None, asked: asked.to_string(), result, reached });
        }
    }
    Ok(answers)
}

/// How many connections the application in a pod has accepted, as it tells somebody in the same pod.
fn accepted(cluster: &Cluster, pod: &str) -> Result<u64> {
    let own = SocketAddr::from((Ipv4Addr::LOCALHOST, PORT));
    let told = app::run(cluster.pod(pod)?, &["get", &own.to_string()])?;
    told["body"]["connection"].as_u64().with_context(|| format!("{pod} does not count: {told}"))
}

/// Calls a service by its cluster address, in both families.
pub fn call_service(cluster: &Cluster, from: &str, service: &str) -> Result<Vec<Value>> {
    let found = cluster.manifests.services.get(service).with_context(|| format!("no service {service}"))?;
    let port = *found.ports.first().context("a service without ports")?;
    let from = cluster.pod(from)?;
    let ask = |address| app::run(from, &["get", &SocketAddr::new(address, port).to_string()]);
    found.addresses.both().into_iter().map(ask).collect()
}

/// The flows that a node's agent told of between two pods. They are told when a connection ends, which may be a moment
/// after its client has gone: waits for one.
pub fn flows(mesh: &mut Mesh, node: &str, from: &str, to: &str) -> Result<Vec<Value>> {
    const LIMIT: Duration = Duration::from_secs(3);
    let agent = mesh.agent(node)?;
    eventually(LIMIT, || {
        let flows = agent.list(&["flows", "--from", from, "--to", to])?;
        anyhow::ensure!(!flows.is_empty(), "the agent of {node} tells of no flow from {from} to {to}");
        Ok(flows)
    })
}

/// The flow of the connection from a pod to an address that has ended last; waits for one.
pub fn flow_of(mesh: &mut Mesh, node: &str, from: &str, to: SocketAddr) -> Result<Value> {
    const LIMIT: Duration = Duration::from_secs(3);
    let agent = mesh.agent(node)?;
    eventually(LIMIT, || {
        let flows = agent.list(&["flows", "--from", from, "--to", &to.ip().to_string()])?;
        let is_it = |flow: &&Value| {
            flow["event"] == "close" && flow["connection"]["destination"]["address"] == to.to_string()
        };
        flows.iter().rev().find(is_it).cloned().with_context(|| format!("no flow to {to} has ended"))
    })
}

/// What the kernel on a node has counted so far, as its agent tells it: connections captured, joined, steered, by name.
pub fn counters(mesh: &mut Mesh, node: &str) -> Result<BTreeMap<String, u64>> {
    let told = mesh.agent(node)?.ask(&["bpf"])?;
    let list = told["counters"].as_array().with_context(|| format!("no counters in {told}"))?;
    let pair = |counter: &Value| Some((counter["name"].as_str()?.to_owned(), counter["value"].as_u64()?));
    Ok(list.iter().filter_map(pair).collect())
}

/// What agents tell of flows, in either mode.
pub trait Flows {
    /// The flows that a node's agent tells of between two pods; waits for one.
    fn between(&mut self, node: &str, from: &str, to: &str) -> Result<Vec<Value>>;
    /// The pods.
    fn manifests(&self) -> &Manifests;
}

/// The agents of the mesh with capture.
pub struct Told<'a>(pub &'a mut Mesh);

impl Flows for Told<'_> {
    fn between(&mut self, node: &str, from: &str, to: &str) -> Result<Vec<Value>> {
        flows(self.0, node, from, to)
    }

    fn manifests(&self) -> &Manifests {
        &self.0.cluster.manifests
    }
}
