//! `weft-control`, reading a directory of manifests, as a process of its own.

use crate::{Cluster, Place, Process, binaries};
use anyhow::{Context, Result};
use std::{
    fs,
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
    place: Place,
    process: Process,
}

impl Control {
    /// Starts it beside the nodes, on a copy of the cluster's manifests.
    pub fn start(cluster: &Cluster) -> Result<Self> {
        let directory = cluster.run.directory().join("control");
        let (manifests, state) = (directory.join("manifests"), directory.join("state"));
        copy(&cluster.manifests.directory, &manifests)?;
        let place = cluster.control.place.clone();
        let process = spawn(&place, &manifests, &state)?;
        let mut control = Self { manifests, state, place, process };
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
        self.process = spawn(&self.place, &self.manifests, &self.state)?;
        self.wait_ready()
    }

    /// The root certificate that its own certificate chains to.
    pub fn root(&self) -> PathBuf {
        self.state.join("root-cert.pem")
    }

    /// The token by which the agent of a node names itself.
    pub fn token(&self, node: &str) -> Result<PathBuf> {
        let token = self.state.join("tokens").join(node);
        anyhow::ensure!(token.exists(), "there is no token for {node} at {}", token.display());
        Ok(token)
    }

    /// Lets it run on when this value goes.
    pub fn detach(self) {
        self.process.detach();
    }

    fn wait_ready(&mut self) -> Result<()> {
        self.process.wait_for_line(START, |line| line.contains("serving")).map(drop)
    }
}

fn spawn(place: &Place, manifests: &Path, state: &Path) -> Result<Process> {
    let text = |path: &Path| path.to_str().map(str::to_owned).context("a path is not UTF-8");
    let args = ["run", "--manifests", &text(manifests)?, "--state-dir", &text(state)?];
    place.spawn("weft-control", binaries::find("weft-control")?, &args)
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
