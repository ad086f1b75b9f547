//! Where the story plays: the bookshop's cluster, and what is asked of it over and over.

use super::calls::{Answer, CALLS};
use anyhow::{Context, Result};
use serde_json::Value;
use std::{fs, net::SocketAddr, time::Duration};
use weft_tests::{Capture, Cluster, Manifests, Mesh, Process, Run, app, eventually, wire::Wire};

/// The port of the sink that the measurements send to; the manifests do not use it.
pub const SINK: u16 = 9000;

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
        let namespace = &cluster.pod(caller)?.manifest.namespace;
        let labels = cluster.manifests.namespaces.get(namespace).context("a pod without a namespace")?;
        let meshed = labels.get("weft.dev/mesh").is_some_and(|value| value == "enabled");
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
            let asked = SocketAddr::new(address, 8080);
            let result = app::run(from, &["get", &asked.to_string(), "/", "--header", &header])?;
            answers.push(Answer { call, asked, result });
        }
    }
    Ok(answers)
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

/// Seconds of processor time that a node's own processes, its agent among them, have used so far.
pub fn processor_seconds(cluster: &Cluster, node: &str) -> Result<f64> {
    let stat = fs::read_to_string(cluster.node(node)?.cgroup.join("cpu.stat"))?;
    let used = stat.lines().find_map(|line| line.strip_prefix("usage_usec ")).context("no usage_usec")?;
    Ok(used.trim().parse::<u64>()? as f64 / 1e6)
}
