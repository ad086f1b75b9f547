//! A node: namespaces of its own, and in them what makes a machine a node of a cluster.

mod config;

pub(crate) use config::PAUSE;

use crate::{
    ControlPlane, Parts, cgroups,
    daemon::Daemon,
    files, network,
    pki::Subject,
    plan::{NodePlan, Plan},
};
use anyhow::{Context, Result, bail, ensure};
use std::{
    ffi::{OsStr, OsString},
    fs::File,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};
use weft_tests::Netns;

/// Where a node's files of configuration are, from its root.
const ETC: &str = "etc";

/// The shell that is always there, and needs nothing.
const BUSYBOX: &str = "/bin/busybox";

const INIT: &str = include_str!("node/init.sh");

/// How long a program of it may take until it answers, on a machine that has other things to do.
const READY: Duration = Duration::from_secs(60);

const CONTAINERD: &str = "containerd";
const KUBELET: &str = "kubelet";
const PROXY: &str = "kube-proxy";

/// A node of a cluster; a handle.
#[derive(Clone, Debug)]
pub struct Node {
    cluster: Plan,
    plan: NodePlan,
    parts: Parts,
}

impl Node {
    pub(crate) fn new(cluster: &Plan, plan: NodePlan, parts: &Parts) -> Self {
        Self { cluster: cluster.clone(), plan, parts: parts.clone() }
    }

    /// Its name in the cluster.
    pub fn name(&self) -> &str {
        &self.plan.name
    }

    /// Its names and addresses.
    pub fn plan(&self) -> &NodePlan {
        &self.plan
    }

    /// Its network namespace; what passes between nodes passes its `eth0`.
    pub fn netns(&self) -> Result<Netns> {
        Netns::open(&self.plan.netns)
    }

    /// The cgroup (v2) below which all of its pods lie, and no other node's: a node agent's programs belong there.
    pub fn kubepods(&self) -> Result<PathBuf> {
        Ok(cgroups::v2(&self.plan.cgroup)?.join("kubepods"))
    }

    /// Its root directory, seen from the machine.
    pub fn root(&self) -> Result<PathBuf> {
        Ok(Path::new("/proc").join(self.process()?.to_string()).join("root"))
    }

    /// A command that runs in the node as its root does: its files, processes, network and name.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Result<Command> {
        let [first, rest @ ..] = &self.enter()?[..] else { bail!("nothing to enter by") };
        let mut command = Command::new(first);
        command.args(rest).arg(program);
        Ok(command)
    }

    /// Runs a command in the node and gives what it printed.
    pub fn run(&self, program: &str, args: &[&str]) -> Result<String> {
        let output = self.command(program)?.args(args).stdin(Stdio::null()).output()?;
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{}: {program} {}: {}", self.name(), args.join(" "), error.trim());
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Imports an archive of images.
    pub fn import(&self, archive: &Path) -> Result<()> {
        let input = File::open(archive).with_context(|| format!("cannot read {}", archive.display()))?;
        let mut import = self.command("ctr")?;
        import.args(["--namespace", "k8s.io", "images", "import", "-"]).stdin(input);
        let output = import.output().context("cannot run ctr (Debian package containerd)")?;
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{}: {}: {}", self.name(), archive.display(), error.trim());
        Ok(())
    }

    /// Makes the namespaces and starts containerd, where they are not there.
    pub(crate) fn boot(&self, control: &ControlPlane) -> Result<()> {
        if !self.daemon("init").is_running()? {
            // What is left of an earlier one is of no use without its first process.
            self.clear()?;
            self.configure(control)?;
            cgroups::create(&self.plan.cgroup)?;
            network::node(&self.cluster, &self.plan)?;
            self.start_init()?;
        }
        let containerd = self.daemon(CONTAINERD);
        containerd.ensure(&self.inside(&["containerd".into()])?)?;
        containerd.wait(READY, || self.run("ctr", &["--namespace", "k8s.io", "version"]).map(drop))
    }

    /// Starts kubelet and kube-proxy, where they do not run. The image of [`PAUSE`] must be there.
    pub(crate) fn join(&self) -> Result<()> {
        let kubelet = vec![
            self.parts.path(KUBELET).into(),
            "--config=/etc/kubernetes/kubelet.yaml".into(),
            "--kubeconfig=/etc/kubernetes/kubelet.kubeconfig".into(),
            format!("--hostname-override={}", self.name()).into(),
            format!("--node-ip={}", self.plan.addresses.all().join(",")).into(),
        ];
        self.daemon(KUBELET).ensure(&self.inside(&kubelet)?)?;
        let proxy = vec![self.parts.path(PROXY).into(), "--config=/etc/kubernetes/kube-proxy.yaml".into()];
        self.daemon(PROXY).ensure(&self.inside(&proxy)?)
    }

    /// Takes its power away: everything in it is killed, its memory is lost, its disk stays.
    pub fn power_off(&self) -> Result<()> {
        self.clear()
    }

    /// Starts it after [`Node::power_off`]; on return it has kubelet again, which need not be ready yet.
    pub fn power_on(&self, control: &ControlPlane) -> Result<()> {
        self.boot(control)?;
        self.join()
    }

    /// Its power goes and comes back.
    pub fn reboot(&self, control: &ControlPlane) -> Result<()> {
        self.power_off()?;
        self.power_on(control)
    }

    /// Stops kubelet, as its upgrade would; pods go on.
    pub fn stop_kubelet(&self) -> Result<()> {
        self.daemon(KUBELET).stop(Duration::from_secs(10))
    }

    /// Its programs that run, and those that do not.
    pub(crate) fn status(&self) -> Result<Vec<(String, bool)>> {
        let names = ["init", CONTAINERD, KUBELET, PROXY];
        names
            .iter()
            .map(|name| Ok((format!("{}: {name}", self.name()), self.daemon(name).is_running()?)))
            .collect()
    }

    /// Ends all its processes and removes what is not on its disk.
    pub(crate) fn clear(&self) -> Result<()> {
        cgroups::remove(&self.plan.cgroup)?;
        // The kernel takes its time over a namespace, and the link would stand in the next one's way.
        network::remove_link(&self.plan.interface)?;
        network::remove_namespace(&self.plan.netns)
    }

    fn data(&self) -> PathBuf {
        self.cluster.data_directory().join(self.name())
    }

    fn configure(&self, control: &ControlPlane) -> Result<()> {
        let etc = self.data().join(ETC);
        config::write(&etc, &self.cluster, &self.plan)?;
        let (pki, kubernetes) = (control.pki(), etc.join("kubernetes"));
        let user = format!("system:node:{}", self.name());
        let kubelet = control.kubeconfig_for(&user, Some("system:nodes"))?;
        files::write_secret(&kubernetes.join("kubelet.kubeconfig"), files::read(&kubelet)?)?;
        let proxy = control.kubeconfig_for("system:kube-proxy", None)?;
        files::write_secret(&kubernetes.join("kube-proxy.kubeconfig"), files::read(&proxy)?)?;
        let mut hosts = self.plan.addresses.all();
        hosts.push(self.name().to_owned());
        pki.issue(&Subject { name: self.name(), user: &user, group: Some("system:nodes"), hosts })?;
        files::write(&kubernetes.join("node.crt"), files::read(&pki.certificate(self.name()))?)?;
        files::write_secret(&kubernetes.join("node.key"), files::read(&pki.key(self.name()))?)?;
        files::write(&kubernetes.join("ca.crt"), files::read(&pki.authority())?)
    }

    fn start_init(&self) -> Result<()> {
        let data = self.data();
        for directory in ["etc-work", "log", "lib"] {
            files::directory(&data.join(directory))?;
        }
        let script = data.join("init.sh");
        files::write(&script, INIT)?;
        let mut command: Vec<OsString> = vec!["nsenter".into()];
        command.push(format!("--net=/run/netns/{}", self.plan.netns).into());
        command.extend(["unshare", "--mount", "--uts", "--ipc", "/bin/sh"].map(Into::into));
        command.extend([script.into(), self.name().into(), data.into(), BUSYBOX.into()]);
        let init = self.daemon("init");
        init.ensure(&command)?;
        init.wait(READY, || {
            let ready = self.root()?.join("run/.ready");
            ensure!(ready.exists(), "its file systems are not mounted yet");
            Ok(())
        })
    }

    /// A process that is in the node's namespaces and stays.
    fn process(&self) -> Result<i32> {
        let mounts = |process: &str| std::fs::read_link(format!("/proc/{process}/ns/mnt"));
        let ours = mounts("self")?;
        // Until the first one has its own namespaces, it is in ours.
        let inside = |process: &i32| mounts(&process.to_string()).is_ok_and(|theirs| theirs != ours);
        let found = self.daemon("init").processes()?.into_iter().filter(inside).min();
        found.with_context(|| format!("{} does not run: cargo xtask cluster up", self.name()))
    }

    fn enter(&self) -> Result<Vec<OsString>> {
        let target = format!("--target={}", self.process()?);
        let all = ["nsenter", &target, "--mount", "--uts", "--ipc", "--net", "--"];
        Ok(all.iter().map(Into::into).collect())
    }

    fn inside(&self, command: &[OsString]) -> Result<Vec<OsString>> {
        let mut all = self.enter()?;
        all.extend_from_slice(command);
        Ok(all)
    }

    fn daemon(&self, name: &str) -> Daemon {
        let group = format!("{}/system", self.plan.cgroup);
        Daemon::new(&group, &self.cluster.logs(), &format!("{}-", self.name()), name)
    }
}
