//! A cluster on one machine: the nodes and pods of a set of manifests, as network namespaces.
//!
//! Nodes are joined by veth links, each pair by one. A pod hangs behind its node by a veth of its own, with its addresses
//! alone (no subnet) and its default route through the node, as most CNI plugins lay it out.

use crate::{
    Link, Manifests, Netns, Place, Process, Run, binaries,
    manifests::{Dual, NodeManifest, PodManifest},
    netns::sysctl,
};
use anyhow::{Context, Result};
use std::{
    collections::BTreeMap,
    fs,
    net::{Ipv4Addr, Ipv6Addr},
    ops::Deref,
    sync::Arc,
    time::Duration,
};

/// The gateway that every pod sees: the node's end of its link.
const GATEWAY_V6: &str = "fe80::1";

/// Where the control plane is, which no manifest says.
pub struct ControlPlane {
    /// Its name among the nodes' names.
    pub name: &'static str,
    /// Its addresses.
    pub addresses: Dual,
    /// The port of discovery and CA.
    pub port: u16,
}

/// The control plane's place; the port is istiod's.
pub const CONTROL: ControlPlane = ControlPlane {
    name: "control",
    addresses: Dual { v4: Ipv4Addr::new(10, 10, 255, 1), v6: Ipv6Addr::new(0xfd10, 0, 0, 0, 0, 0, 0xff, 1) },
    port: 15012,
};

/// Nodes, links and pods; all of it goes when this value and its clones of the run are gone.
#[derive(Debug)]
pub struct Cluster {
    /// The nodes, by name.
    pub nodes: BTreeMap<String, Node>,
    /// The pods, by `<namespace>/<name>`.
    pub pods: BTreeMap<String, Pod>,
    /// The links between the nodes.
    pub links: Vec<Link>,
    /// Where the control plane runs: a namespace like a node's, but without pods.
    pub control: Node,
    /// The links from the control plane to the nodes.
    pub control_links: Vec<Link>,
    /// What it was built from.
    pub manifests: Manifests,
    /// The run that it belongs to.
    pub run: Arc<Run>,
}

/// A node: a network namespace that forwards for its pods.
#[derive(Clone, Debug)]
pub struct Node {
    /// Where its processes run.
    pub place: Place,
    /// What the manifests say of it.
    pub manifest: NodeManifest,
}

/// A pod: a network namespace behind a node.
#[derive(Clone, Debug)]
pub struct Pod {
    /// Where its processes run.
    pub place: Place,
    /// What the manifests say of it.
    pub manifest: PodManifest,
}

impl Deref for Node {
    type Target = Place;

    fn deref(&self) -> &Place {
        &self.place
    }
}

impl Deref for Pod {
    type Target = Place;

    fn deref(&self) -> &Place {
        &self.place
    }
}

impl Cluster {
    /// Builds the nodes, links and pods of `manifests` under the name of `run`.
    pub fn build(run: Run, manifests: Manifests) -> Result<Self> {
        let run = Arc::new(run);
        let own = NodeManifest { addresses: CONTROL.addresses, pod_ranges: Vec::new() };
        let own = BTreeMap::from([(CONTROL.name.to_owned(), own)]);
        let control =
            build_nodes(&run, &own)?.remove(CONTROL.name).context("no place for the control plane")?;
        let nodes = build_nodes(&run, &manifests.nodes)?;
        let mut control_links = Vec::new();
        for (name, node) in &nodes {
            let ends = (
                (CONTROL.name, &control.netns, &control.manifest),
                (name.as_str(), &node.netns, &node.manifest),
            );
            control_links.push(Link::create(ends.0, ends.1)?);
        }
        let mut links = Vec::new();
        for (index, (a, left)) in nodes.iter().enumerate() {
            for (b, right) in nodes.iter().skip(index + 1) {
                links.push(Link::create(
                    (a, &left.netns, &left.manifest),
                    (b, &right.netns, &right.manifest),
                )?);
            }
        }
        let pods = build_pods(&run, &nodes, &manifests)?;
        Ok(Self { nodes, pods, links, control, control_links, manifests, run })
    }

    /// Removes the interface of a pod, and its node's end with it.
    pub fn unplug(&self, key: &str) -> Result<()> {
        self.pod(key)?.netns.ip(&["link delete eth0".into()])
    }

    /// Gives a pod its interface again, with the addresses and routes that it had.
    pub fn plug(&self, key: &str) -> Result<()> {
        let pod = self.pod(key)?;
        let index = self.pods.keys().position(|known| known == key).context("no such pod")?;
        connect(self.node(&pod.manifest.node)?, &pod.netns, &pod.manifest, &interface(index))
    }

    /// The node called `name`.
    ///
    /// # Errors
    /// When the manifests have none of that name.
    pub fn node(&self, name: &str) -> Result<&Node> {
        self.nodes.get(name).with_context(|| format!("the manifests have no node {name}"))
    }

    /// The pod `<namespace>/<name>`.
    ///
    /// # Errors
    /// When the manifests have none of that name.
    pub fn pod(&self, key: &str) -> Result<&Pod> {
        self.pods.get(key).with_context(|| format!("the manifests have no pod {key}"))
    }

    /// Starts the containers of every pod, as the manifests have them, and waits until each has said that it is ready.
    pub fn start_applications(&self) -> Result<Vec<Process>> {
        const LIMIT: Duration = Duration::from_secs(10);
        let mut started = Vec::new();
        for pod in self.pods.values() {
            for command in &pod.manifest.commands {
                let (program, args) = command.split_first().context("a container without a command")?;
                let args: Vec<_> = args.iter().map(String::as_str).collect();
                started.push(pod.spawn(&pod.manifest.key, binaries::find(program)?, &args)?);
            }
        }
        for process in &mut started {
            process.wait_for_line(LIMIT, |line| line.contains(r#""ready""#))?;
        }
        Ok(started)
    }
}

fn build_nodes(run: &Arc<Run>, manifests: &BTreeMap<String, NodeManifest>) -> Result<BTreeMap<String, Node>> {
    let names: Vec<_> = manifests.keys().map(|name| format!("{}-{name}", run.name())).collect();
    let namespaces = Netns::create(&names)?;
    let mut nodes = BTreeMap::new();
    for ((name, manifest), netns) in manifests.iter().zip(namespaces) {
        netns.run(|| {
            sysctl("net/ipv4/ip_forward", "1")?;
            sysctl("net/ipv6/conf/all/forwarding", "1")
        })?;
        let addresses = manifest.addresses;
        netns.ip(&[
            format!("addr add {}/32 dev lo", addresses.v4),
            format!("addr add {}/128 dev lo nodad", addresses.v6),
        ])?;
        let cgroup = run.cgroup()?.join(name);
        fs::create_dir_all(cgroup.join("system"))?;
        // Processes of the node itself sit beside its pods' cgroups, not above them.
        let place = Place { name: name.clone(), netns, cgroup: cgroup.join("system"), run: run.clone() };
        nodes.insert(name.clone(), Node { place, manifest: manifest.clone() });
    }
    Ok(nodes)
}

impl Node {
    /// The cgroup that holds the node's own processes and its pods'.
    pub fn cgroup(&self) -> &std::path::Path {
        self.place.cgroup.parent().unwrap_or(&self.place.cgroup)
    }
}

fn build_pods(
    run: &Arc<Run>,
    nodes: &BTreeMap<String, Node>,
    manifests: &Manifests,
) -> Result<BTreeMap<String, Pod>> {
    let name = |pod: &PodManifest| format!("{}-{}-{}", run.name(), pod.namespace, pod.name);
    let namespaces = Netns::create(&manifests.pods.values().map(name).collect::<Vec<_>>())?;
    let mut pods = BTreeMap::new();
    for (index, ((key, manifest), netns)) in manifests.pods.iter().zip(namespaces).enumerate() {
        let node = nodes
            .get(&manifest.node)
            .with_context(|| format!("pod {key} wants node {}, which the manifests lack", manifest.node))?;
        connect(node, &netns, manifest, &interface(index)).with_context(|| format!("pod {key}"))?;
        let cgroup = node.cgroup().join("kubepods").join(format!("pod{}", manifest.uid)).join("container");
        fs::create_dir_all(&cgroup)?;
        let place = Place { name: key.clone(), netns, cgroup, run: run.clone() };
        pods.insert(key.clone(), Pod { place, manifest: manifest.clone() });
    }
    Ok(pods)
}

/// What a node calls its end of the link to its pod of this number.
fn interface(index: usize) -> String {
    format!("pod{index}")
}

/// Lays the link between a pod and its node; `interface` is its name on the node.
fn connect(node: &Node, pod: &Netns, manifest: &PodManifest, interface: &str) -> Result<()> {
    let (host, own) = (node.manifest.addresses, manifest.addresses);
    crate::ip::batch(
        None,
        &[format!(
            "link add {interface} netns {} type veth peer name eth0 netns {}",
            node.netns.name(),
            pod.name()
        )],
    )?;
    node.netns.ip(&[
        format!("link set {interface} up"),
        format!("addr add {GATEWAY_V6}/64 dev {interface} nodad"),
        format!("route add {}/32 dev {interface} src {}", own.v4, host.v4),
        format!("route add {}/128 dev {interface} src {}", own.v6, host.v6),
    ])?;
    pod.ip(&[
        "link set eth0 up".into(),
        format!("addr add {}/32 dev eth0", own.v4),
        format!("addr add {}/128 dev eth0 nodad", own.v6),
        format!("route add {}/32 dev eth0", host.v4),
        format!("route add default via {} dev eth0", host.v4),
        format!("route add default via {GATEWAY_V6} dev eth0"),
    ])
}
