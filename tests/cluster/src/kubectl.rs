//! `kubectl` with the cluster's own kubeconfig.

use crate::Parts;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

/// A way to talk to an API server.
#[derive(Clone, Debug)]
pub struct Kubectl {
    program: PathBuf,
    kubeconfig: PathBuf,
}

impl Kubectl {
    pub(crate) fn new(parts: &Parts, kubeconfig: &Path) -> Self {
        Self { program: parts.path("kubectl"), kubeconfig: kubeconfig.to_owned() }
    }

    /// A command to be run, or to be given more.
    #[must_use]
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        // Discovery is kept in files; those of another user's home, or of a cluster that is gone, are not ours.
        let cache = self.kubeconfig.with_file_name("kubectl-cache");
        command.arg("--kubeconfig").arg(&self.kubeconfig).arg("--cache-dir").arg(cache);
        // Last: they may say what a pod shall run.
        command.args(args);
        command
    }

    /// Runs it and gives what it printed.
    ///
    /// # Errors
    /// When it fails, with what it said.
    pub fn run(&self, args: &[&str]) -> Result<String> {
        let output = self.command(args).stdin(Stdio::null()).output().context("cannot run kubectl")?;
        said(args, &output)
    }

    /// Runs it with `input` on its standard input.
    pub fn run_with(&self, args: &[&str], input: &str) -> Result<String> {
        let mut command = self.command(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().context("cannot run kubectl")?;
        let mut stdin = child.stdin.take().context("kubectl has no stdin")?;
        // One that ends early closes the pipe; what it printed says more than the broken pipe.
        let written = stdin.write_all(input.as_bytes());
        drop(stdin);
        let said = said(args, &child.wait_with_output()?)?;
        written.context("cannot write to kubectl")?;
        Ok(said)
    }

    /// Applies manifests.
    pub fn apply(&self, yaml: &str) -> Result<String> {
        self.run_with(&["apply", "-f", "-"], yaml)
    }

    /// Runs it with `-o json` and gives the answer.
    pub fn json(&self, args: &[&str]) -> Result<Value> {
        let all = [args, &["-o", "json"]].concat();
        serde_json::from_str(&self.run(&all)?).context("kubectl printed no JSON")
    }
}

fn said(args: &[&str], output: &Output) -> Result<String> {
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "kubectl {}: {}", args.join(" "), error.trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
