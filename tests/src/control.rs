//! `weft-control`, reading a directory of manifests, as a process of its own.

use crate::{Cluster, Place, Process, binaries, cluster::CONTROL};
use anyhow::{Context, Result};
use std::{
    fs::{self, File},
    io::{Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

/// How long it may take to be ready.
const START: Duration = Duration::from_secs(15);

/// The control plane of a mesh.
#[derive(Debug)]
pub struct Control {
    /// The directory that it reads; a copy, so that scenarios may change it.
    pub manifests: PathBuf,
    /// Where its keys are.
    pub state: PathBuf,
    flags: Vec<String>,
    place: Place,
    process: Process,
}

impl Control {
    /// Starts it beside the nodes, on a copy of the cluster's manifests.
    pub fn start(cluster: &Cluster) -> Result<Self> {
        Self::start_with(cluster, &[])
    }

    /// Like [`Control::start`], with more flags for `weft-control run`.
    pub fn start_with(cluster: &Cluster, flags: &[&str]) -> Result<Self> {
        let flags: Vec<_> = flags.iter().map(|&flag| flag.to_owned()).collect();
        let directory = cluster.run.directory().join("control");
        let (manifests, state) = (directory.join("manifests"), directory.join("state"));
        copy(&cluster.manifests.directory, &manifests)?;
        cluster.nodes.keys().try_for_each(|node| invent_token(&state, node))?;
        let place = cluster.control.place.clone();
        let process = spawn(&place, &manifests, &state, &flags)?;
        let mut control = Self { manifests, state, flags, place, process };
        control.wait_ready()?;
        Ok(control)
    }

    /// The process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Writes a manifest file, whole or not at all, as `kubectl apply` would change a cluster.
    pub fn apply(&self, file: &str, text: &str) -> Result<()> {
        // The directory source reads `.yaml` files only, and so never sees the half-written one.
        let half = self.manifests.join(format!("{file}.part"));
        fs::write(&half, text)?;
        Ok(fs::rename(half, self.manifests.join(file))?)
    }

    /// Removes a manifest file.
    pub fn delete(&self, file: &str) -> Result<()> {
        fs::remove_file(self.manifests.join(file)).with_context(|| format!("no manifest {file}"))
    }

    /// Starts it again after it was stopped or killed.
    pub fn start_again(&mut self) -> Result<()> {
        self.process = spawn(&self.place, &self.manifests, &self.state, &self.flags)?;
        self.wait_ready()
    }

    /// The root certificates that its own certificate chains to.
    pub fn root(&self) -> PathBuf {
        root(&self.state)
    }

    /// The token by which the agent of a node names itself.
    pub fn token(&self, node: &str) -> PathBuf {
        token(&self.state, node)
    }

    /// Lets it run on when this value goes.
    pub fn detach(self) {
        self.process.detach();
    }

    fn wait_ready(&mut self) -> Result<()> {
        self.process.wait_for_line(START, |line| line.starts_with("monitoring ")).map(drop)
    }
}

fn spawn(place: &Place, manifests: &Path, state: &Path, flags: &[String]) -> Result<Process> {
    let root = root(state);
    let text = |path: &Path| path.to_str().map(str::to_owned).context("a path is not UTF-8");
    let (manifests, state, root) = (text(manifests)?, text(state)?, text(&root)?);
    let [v4, v6] = CONTROL.addresses.both().map(|address| address.to_string());
    let mut args = vec![
        "run",
        "--manifests",
        &manifests,
        "--state",
        &state,
        "--root",
        &root,
        "--name",
        &v4,
        "--name",
        &v6,
    ];
    args.extend(flags.iter().map(String::as_str));
    place.spawn("weft-control", binaries::find("weft-control")?, &args)
}

pub(crate) fn root(state: &Path) -> PathBuf {
    state.join("root.pem")
}

pub(crate) fn token(state: &Path, node: &str) -> PathBuf {
    state.join("tokens").join(node)
}

/// Lets a node in: its token is a file named after it.
pub(crate) fn invent_token(state: &Path, node: &str) -> Result<()> {
    let mut random = [0; 32];
    File::open("/dev/urandom")?.read_exact(&mut random)?;
    let text: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    let file = token(state, node);
    fs::create_dir_all(file.parent().unwrap_or(state))?;
    let mut options = File::options();
    // Control takes no token that others could have read.
    let mut file = options.create(true).truncate(true).write(true).mode(0o600).open(file)?;
    Ok(file.write_all(text.as_bytes())?)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)?.flatten() {
        if entry.path().extension().is_some_and(|extension| extension == "yaml") {
            fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
    }
    Ok(())
}
