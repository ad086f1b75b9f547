//! Finding pods' network namespaces by their cgroups and processes, without Kubernetes.

use anyhow::{Context, Result, bail, ensure};
use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::watch;
use weft_agent::{
    pods::{
        KubeSource, PodSource, PodSpec, Sandbox,
        source::{follow, kube::NodePaths},
    },
    state::NodePods,
};
use weft_model::NodePod;
use weft_tests::{Netns, Place, Process, Run, app, cgroup, require_kernel};

const PATIENCE: Duration = Duration::from_secs(10);
const UID: &str = "5f1c7a10-0000-4000-8000-000000000010";

/// A node with a kubelet's cgroup, and two namespaces.
struct Node {
    kubepods: PathBuf,
    sandboxes: Vec<Netns>,
    pods: watch::Sender<NodePods>,
    run: Arc<Run>,
}

impl Node {
    fn new(kubepods: &str) -> Result<Self> {
        let run = Arc::new(Run::unique("sandbox")?);
        let sandboxes = Netns::create(&["a", "b"].map(|n| format!("{}-{n}", run.name())))?;
        let kubepods = run.cgroup()?.join(kubepods);
        fs::create_dir_all(&kubepods)?;
        Ok(Self { kubepods, sandboxes, pods: watch::Sender::default(), run })
    }

    fn source(&self) -> Result<KubeSource> {
        let paths = NodePaths { proc: "/proc".into(), cgroup: self.run.cgroup()?, pods: None };
        Ok(KubeSource::new("n1", paths, self.pods.subscribe(), Box::pin(std::future::ready(())))?)
    }

    /// Control says that these are on the node, each with its node.
    fn tell(&self, pods: &[(&str, &str)]) {
        let pod = |(uid, node): &(&str, &str)| NodePod {
            uid: (*uid).into(),
            namespace: "shop".into(),
            name: format!("pod-{}", &uid[..1]).into(),
            node: (*node).into(),
            meshed: true,
        };
        let all: BTreeMap<_, _> = pods.iter().map(pod).map(|p| (p.uid.clone(), p)).collect();
        self.pods.send_replace(Arc::new(all));
    }

    /// A process of a container, in one of the namespaces.
    fn container(&self, dir: &str, sandbox: usize, port: u16) -> Result<Process> {
        let cgroup = self.kubepods.join(dir);
        fs::create_dir_all(&cgroup)?;
        let (name, netns) = (format!("c{port}"), self.sandboxes[sandbox].clone());
        app::serve(&Place { name, netns, cgroup, run: self.run.clone() }, "echo", port)
    }

    fn cookie(&self, sandbox: usize) -> Result<u64> {
        Ok(weft_agent::pods::Netns::open(&self.sandboxes[sandbox].path())?.cookie())
    }
}

/// Waits until the list is what `is_it` wants.
async fn until(
    lists: &mut watch::Receiver<Option<Vec<PodSpec>>>,
    what: &str,
    is_it: impl Fn(&[PodSpec]) -> bool,
) -> Result<()> {
    let wanted = lists.wait_for(|list| list.as_deref().is_some_and(&is_it));
    if tokio::time::timeout(PATIENCE, wanted).await.is_err() {
        bail!("{what}: {:?}", lists.borrow().as_deref());
    }
    Ok(())
}

fn is_at(cookie: u64) -> impl Fn(&[PodSpec]) -> bool {
    move |list| matches!(list, [PodSpec { netns: Sandbox::Held(netns), .. }] if netns.cookie() == cookie)
}

fn is_awaited(list: &[PodSpec]) -> bool {
    matches!(list, [PodSpec { netns: Sandbox::Awaited, meshed: Some(true), .. }])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sandbox_is_found_kept_and_replaced() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let node = Node::new("kubepods")?;
    let (a, b) = (node.cookie(0)?, node.cookie(1)?);
    let mut lists = follow(node.source()?);
    until(&mut lists, "nothing is told", |list| list.is_empty()).await?;
    node.tell(&[(UID, "n1"), ("9-9", "n2")]);
    until(&mut lists, "placed, without a cgroup", is_awaited).await?;
    let dir = format!("burstable/pod{UID}");
    fs::create_dir_all(node.kubepods.join(&dir))?;
    let pause = node.container(&format!("{dir}/pause"), 0, 7000)?;
    until(&mut lists, "a process", is_at(a)).await?;
    // Its process ends and another one comes, as with a container that restarts: nothing changes.
    drop(pause);
    let again = node.container(&format!("{dir}/pause"), 0, 7001)?;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    ensure!(lists.borrow().as_deref().is_some_and(is_at(a)), "{:?}", lists.borrow().as_deref());
    // A container that has a namespace of its own besides is none of the sandbox.
    let nested = node.container(&format!("{dir}/nested"), 1, 7002)?;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    ensure!(lists.borrow().as_deref().is_some_and(is_at(a)), "{:?}", lists.borrow().as_deref());
    drop((again, nested));
    let _replaced = node.container(&format!("{dir}/pause2"), 1, 7003)?;
    until(&mut lists, "another sandbox of the same pod", is_at(b)).await?;
    cgroup::remove(&node.kubepods.join(&dir))?;
    until(&mut lists, "its cgroup is gone", is_awaited).await?;
    node.tell(&[]);
    until(&mut lists, "the pod is gone", |list| list.is_empty()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_that_run_already_are_in_the_first_list() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let node = Node::new("kubelet.slice/kubelet-kubepods.slice")?;
    let systemd = UID.replace('-', "_");
    let class = "kubelet-kubepods-besteffort";
    let scope = format!("{class}.slice/{class}-pod{systemd}.slice/cri-containerd-0123.scope");
    let _pause = node.container(&scope, 0, 7000)?;
    node.tell(&[(UID, "n1")]);
    let first = node.source()?.next().await;
    ensure!(is_at(node.cookie(0)?)(&first), "{first:?}");
    Ok(())
}

/// The runtime's own process is in the pod's cgroup before it is in the pod's namespace.
#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_is_still_in_the_nodes_namespace_is_no_sandbox() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let node = Node::new("kubepods")?;
    let dir = node.kubepods.join(format!("pod{UID}/c"));
    fs::create_dir_all(&dir)?;
    let mut early = std::process::Command::new("/bin/sh")
        .args(["-c", r#"echo 0 >"$0" && exec sleep 60"#])
        .arg(dir.join("cgroup.procs"))
        .spawn()?;
    node.tell(&[(UID, "n1")]);
    let mut lists = follow(node.source()?);
    until(&mut lists, "the node's own", is_awaited).await?;
    let began = Instant::now();
    let _pause = node.container(&format!("pod{UID}/c2"), 0, 7000)?;
    until(&mut lists, "the pod's", is_at(node.cookie(0)?)).await?;
    println!("found {:?} after it was started", began.elapsed());
    early.kill().context("it has ended by itself")?;
    early.wait()?;
    Ok(())
}
