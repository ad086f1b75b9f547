//! Many calls from a pod, and who answered them.

use crate::stage::Stage;
use anyhow::{Context, Result};
use serde_json::Value;
use std::{collections::BTreeSet, time::Duration};
use weft_tests::process;

/// Who answers where nobody does.
pub const NOBODY: &str = "nobody";

/// A pod that calls: its namespace, and what `kubectl exec` calls it.
#[derive(Clone, Copy, Debug)]
pub struct Caller<'a> {
    /// Its namespace.
    pub namespace: &'a str,
    /// `deployment/web`, or the pod's name.
    pub pod: &'a str,
}

impl Caller<'_> {
    /// Calls `to` (`IP:PORT` or `NAME:PORT`) so many times, one after the other; each call's result.
    pub fn call(&self, stage: &Stage, to: &str, times: u8) -> Result<Vec<Value>> {
        let script =
            format!("i=0; while [ $i -lt {times} ]; do weft-app get {to} --patience 2; i=$((i+1)); done");
        let args = ["exec", "--namespace", self.namespace, self.pod, "--", "/bin/sh", "-c", &script];
        let output = process::output(stage.cluster.client().command(&args), Duration::from_secs(120))?;
        let said = String::from_utf8_lossy(&output.stdout);
        let results = said.lines().map(|line| serde_json::from_str(line).with_context(|| line.to_owned()));
        let results = results.collect::<Result<Vec<Value>>>()?;
        // The last call's failure is the script's; none at all is no answer.
        let error = String::from_utf8_lossy(&output.stderr);
        anyhow::ensure!(results.len() == usize::from(times), "{self:?} called {to}: {said}{error}");
        Ok(results)
    }

    /// The names of those who answered calls to `to`.
    pub fn answered(&self, stage: &Stage, to: &str, times: u8) -> Result<BTreeSet<String>> {
        Ok(self.call(stage, to, times)?.iter().map(name).collect())
    }
}

/// The name of the server that answered a call.
fn name(result: &Value) -> String {
    let served = result["ok"] == true;
    let name = result["body"]["name"].as_str().filter(|_| served);
    name.unwrap_or(NOBODY).to_owned()
}
