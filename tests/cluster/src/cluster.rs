//! A whole cluster: control plane, nodes, DNS, addresses for LoadBalancer Services.

use crate::{
    ControlPlane, Image, Kubectl, Node, Parts, balancer, cgroups,
    control_plane::Settings,
    daemon::Daemon,
    dns, files, network,
    node::PAUSE,
    plan::{self, Plan},
    remove,
};
use anyhow::{Context, Result, anyhow, bail, ensure};
use std::{
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};
use weft_tests::{Netns, eventually};

/// The name of a cluster that was given none.
pub const DEFAULT_NAME: &str = "weft";

/// How long the cluster may take to become ready, on a machine that has other things to do.
const READY: Duration = Duration::from_secs(180);

/// What a cluster shall be.
#[derive(Clone, Debug)]
pub struct Options {
    /// Its name.
    pub name: String,
    /// How many nodes it has.
    pub nodes: u8,
    /// Whether it has a DNS.
    pub dns: bool,
    /// Whether it has IPv6 beside IPv4, where the kernel has it.
    pub ipv6: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { name: DEFAULT_NAME.into(), nodes: 2, dns: true, ipv6: true }
    }
}

/// Where a capture sees all that passes between a node and everybody else.
#[derive(Clone, Debug)]
pub struct Link {
    /// The node's namespace.
    pub netns: Netns,
    /// The interface in it.
    pub interface: String,
}

/// A cluster that runs; a handle, its end does not end the cluster.
#[derive(Clone, Debug)]
pub struct Cluster {
    plan: Plan,
    parts: Parts,
    control: ControlPlane,
    nodes: Vec<Node>,
}

impl Cluster {
    /// Brings the cluster up, or what of it does not run; says what it does. All its programs must be built.
    pub fn up(options: &Options) -> Result<Self> {
        plan::check_name(&options.name)?;
        let parts = Parts::find()?;
        let dual_stack = options.ipv6 && Path::new("/proc/net/if_inet6").exists();
        let plan = match Plan::find(&options.name)? {
            Some(plan) => plan,
            None => {
                // Half of one may be left that has no plan.
                remove::remove(&options.name)?;
                Plan::reserve(&options.name, options.nodes, dual_stack, options.dns)?
            }
        };
        ensure!(
            (plan.nodes, plan.dual_stack, plan.dns) == (options.nodes, dual_stack, options.dns),
            "the cluster {} is another one ({} nodes, dual stack: {}, DNS: {}): remove it first: \
             cargo xtask cluster down --name {0}",
            plan.name,
            plan.nodes,
            plan.dual_stack,
            plan.dns
        );
        let cluster = Self::new(plan, &parts)?;
        let _lock = plan::lock(&cluster.plan.name)?;
        cluster.start()?;
        Ok(cluster)
    }

    /// The cluster called `name`.
    ///
    /// # Errors
    /// When there is none, or its programs are not built.
    pub fn open(name: &str) -> Result<Self> {
        let plan = Plan::find(name)?;
        let plan =
            plan.with_context(|| format!("no cluster {name}: cargo xtask cluster up --name {name}"))?;
        Self::new(plan, &Parts::find()?)
    }

    /// Removes the cluster called `name` and all that it made; one that is not there is no error.
    pub fn down(name: &str) -> Result<()> {
        remove::remove(name)?;
        let left = remove::remains(name)?;
        ensure!(left.is_empty(), "left of the cluster {name}: {}", left.join(", "));
        files::remove(&Path::new(plan::RUN).join(format!(".{name}.lock")))?;
        // The last one takes the directories along.
        if plan::names()?.is_empty() {
            files::remove_directory(Path::new(plan::RUN))?;
            files::remove_directory(Path::new(plan::DATA))?;
        }
        Ok(())
    }

    fn new(plan: Plan, parts: &Parts) -> Result<Self> {
        let host = plan.host();
        let also_known_as = std::iter::once(plan.kubernetes_service()).chain(host.v6.clone()).collect();
        let settings = Settings {
            name: plan.name.clone(),
            address: host.v4.parse()?,
            also_known_as,
            services: plan.services(),
            pods: plan.pods(),
        };
        let control = ControlPlane::new(settings, parts)?;
        let nodes = plan.node_plans().into_iter().map(|node| Node::new(&plan, node, parts)).collect();
        Ok(Self { plan, parts: parts.clone(), control, nodes })
    }

    fn start(&self) -> Result<()> {
        let begun = Instant::now();
        let say = |what: &str| eprintln!("{:5.1} s  {what}", begun.elapsed().as_secs_f64());
        cgroups::create(&self.plan.cgroup())?;
        network::bridge(&self.plan)?;
        // The API server takes the longest, and the nodes need it last.
        thread::scope(|scope| {
            let api = scope.spawn(|| self.control.start_api());
            say("etcd and the API server are starting");
            let archives = self.own_images()?;
            for node in &self.nodes {
                node.boot(&self.control)?;
                self.import_missing(node, &archives)?;
                say(&format!("{}: containerd runs and has its images", node.name()));
            }
            network::route_to_all(&self.plan)?;
            api.join().map_err(|_| anyhow!("starting the API server panicked"))?
        })?;
        say("the API answers");
        self.register()?;
        self.control.start_controllers()?;
        for node in &self.nodes {
            node.join()?;
        }
        // Pods are refused in a namespace that has no account yet.
        for namespace in ["default", "kube-system"] {
            let get = ["get", "serviceaccount", "default", "--namespace", namespace];
            eventually(READY, || self.kubectl(&get))?;
        }
        if self.plan.dns {
            self.apply(&dns::manifests(&self.plan))?;
        }
        balancer::daemon(&self.plan).ensure(&balancer::command(&self.plan)?)?;
        self.wait_for_nodes()?;
        say("the nodes are ready");
        if self.plan.dns {
            let limit = format!("--timeout={}s", READY.as_secs());
            self.kubectl(&["rollout", "status", "deployment/coredns", "--namespace=kube-system", &limit])?;
            say("DNS answers");
        }
        Ok(())
    }

    /// Tells the API server which addresses each node's pods have, before kubelet says who it is.
    fn register(&self) -> Result<()> {
        let known = self.kubectl(&["get", "nodes", "--output", "name"])?;
        for node in self.nodes.iter().filter(|node| !known.contains(&format!("node/{}\n", node.name()))) {
            let ranges = &node.plan().pods;
            let manifest = serde_json::json!({
                "apiVersion": "v1",
                "kind": "Node",
                "metadata": {"name": node.name()},
                "spec": {"podCIDR": ranges[0], "podCIDRs": ranges},
            });
            self.control.kubectl().run_with(&["create", "-f", "-"], &manifest.to_string())?;
        }
        Ok(())
    }

    /// Archives of the images that the cluster itself needs, made once for all clusters.
    fn own_images(&self) -> Result<Vec<(String, PathBuf)>> {
        let mut archives = vec![(PAUSE.to_owned(), self.parts.path("pause.tar"))];
        if self.plan.dns {
            archives.push((dns::image_name(), self.parts.path("coredns.tar")));
        }
        for (name, archive) in archives.iter().filter(|(_, archive)| !archive.exists()) {
            if name == PAUSE { build_pause(archive)? } else { dns::build_image(&self.parts, archive)? }
        }
        Ok(archives)
    }

    fn import_missing(&self, node: &Node, archives: &[(String, PathBuf)]) -> Result<()> {
        let known = node.run("ctr", &["--namespace", "k8s.io", "images", "list", "--quiet"])?;
        let mut missing = archives.iter().filter(|(name, _)| !known.lines().any(|line| line == name));
        missing.try_for_each(|(_, archive)| node.import(archive))
    }

    /// Waits until every node is ready, as the API server sees it.
    pub fn wait_for_nodes(&self) -> Result<()> {
        let names = self.nodes.iter().map(|node| format!("node/{}", node.name())).collect::<Vec<_>>();
        let limit = format!("--timeout={}s", READY.as_secs());
        let mut args = vec!["wait", "--for=condition=Ready", &limit];
        args.extend(names.iter().map(String::as_str));
        self.kubectl(&args).map(drop)
    }

    /// What it is made of.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Its programs.
    pub fn parts(&self) -> &Parts {
        &self.parts
    }

    /// Its control plane.
    pub fn control_plane(&self) -> &ControlPlane {
        &self.control
    }

    /// Its nodes, in order.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The node of this name.
    pub fn node(&self, name: &str) -> Result<&Node> {
        self.nodes.iter().find(|node| node.name() == name).with_context(|| format!("no node {name}"))
    }

    /// The kubeconfig of an administrator.
    pub fn kubeconfig(&self) -> PathBuf {
        self.control.kubeconfig()
    }

    /// Runs `kubectl` as an administrator and gives what it printed.
    pub fn kubectl(&self, args: &[&str]) -> Result<String> {
        self.control.kubectl().run(args)
    }

    /// Runs `kubectl … -o json` and gives the answer.
    pub fn json(&self, args: &[&str]) -> Result<serde_json::Value> {
        self.control.kubectl().json(args)
    }

    /// `kubectl` as an administrator.
    pub fn client(&self) -> Kubectl {
        self.control.kubectl()
    }

    /// Applies manifests.
    pub fn apply(&self, yaml: &str) -> Result<String> {
        self.control.kubectl().apply(yaml)
    }

    /// Imports an archive of images into every node.
    pub fn import(&self, archive: &Path) -> Result<()> {
        self.nodes.iter().try_for_each(|node| node.import(archive))
    }

    /// Where a capture sees what passes between the first node and the others.
    pub fn link(&self) -> Result<Link> {
        let Some(node) = self.nodes.first() else {
            bail!("the cluster has no nodes, and no link between them")
        };
        Ok(Link { netns: node.netns()?, interface: "eth0".into() })
    }

    /// Takes a node's power away and gives it back; on return it is ready again.
    pub fn reboot(&self, node: &Node) -> Result<()> {
        let resource = format!("node/{}", node.name());
        let boot = || self.kubectl(&["get", &resource, "--output", "jsonpath={.status.nodeInfo.bootID}"]);
        let before = boot()?;
        node.reboot(&self.control)?;
        network::route_to_all(&self.plan)?;
        // Until its kubelet says otherwise, the API server believes what the node said before.
        eventually(READY, || {
            ensure!(boot()? != before, "{} has not told the API server that it started anew", node.name());
            Ok(())
        })?;
        self.wait_for_nodes()
    }

    /// Every part of it, and whether it runs.
    pub fn status(&self) -> Result<Vec<(String, bool)>> {
        let mut all = self.control.status()?;
        for node in &self.nodes {
            all.extend(node.status()?);
        }
        all.push((balancer::NAME.into(), balancer::daemon(&self.plan).is_running()?));
        Ok(all)
    }

    /// One of the programs beside the control plane, in the machine's own namespace.
    pub(crate) fn helper(plan: &Plan, name: &str) -> Daemon {
        Daemon::new(&format!("{}/control", plan.cgroup()), &plan.logs(), "", name)
    }
}

/// The container that holds a pod's namespaces: it does nothing, reaps what it inherits, and ends when told to.
fn build_pause(archive: &Path) -> Result<()> {
    const WAIT: &str = "trap 'exit 0' TERM INT; while :; do sleep 86400 & wait $!; done";
    Image::new(PAUSE).busybox(&["sh", "sleep"])?.entrypoint(&["/bin/sh", "-c", WAIT]).build(archive)
}
