//! What the scenarios share: the cluster, and ways to look at it.

use crate::networks::Networks;
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};
use weft_cluster::Cluster;
use weft_tests::process;

/// The namespace of the mesh's own pods.
pub const SYSTEM: &str = "weft-system";

/// The label of a namespace or pod that says whether it takes part.
pub const LABEL: &str = "weft.dev/mesh";

/// Marks the namespaces that scenarios make, so that they can be removed together.
const OURS: &str = "weft-e2e=scenario";

/// How long anything may take that a busy machine is not stuck for.
pub const LONG: Duration = Duration::from_secs(120);

/// The stage.
pub struct Stage {
    /// The cluster.
    pub cluster: Cluster,
}

impl Stage {
    /// The stage on the cluster that the environment names.
    pub fn open() -> Result<Self> {
        let name =
            std::env::var("WEFT_CLUSTER").context("WEFT_CLUSTER names no cluster: run `cargo xtask e2e`")?;
        Ok(Self { cluster: Cluster::open(&name)? })
    }

    /// Where files of this run stand; they go with the cluster.
    pub fn scratch(&self, file: &str) -> PathBuf {
        self.cluster.plan().data_directory().join(file)
    }

    /// The workspace.
    pub fn workspace(&self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
    }

    /// What the nodes' networks look like now.
    pub fn networks(&self) -> Result<Networks> {
        Networks::see(&self.cluster)
    }

    /// Runs helm on the cluster.
    pub fn helm(&self, args: &[&str]) -> Result<String> {
        let mut helm = Command::new(self.cluster.parts().program("helm")?);
        helm.args(args).args(["--namespace", SYSTEM, "--kubeconfig"]).arg(self.cluster.kubeconfig());
        for kind in ["CACHE", "CONFIG", "DATA"] {
            helm.env(format!("HELM_{kind}_HOME"), self.scratch("helm"));
        }
        let output = process::output(helm, Duration::from_secs(400))?;
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "helm {}: {}", args.join(" "), error.trim());
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Makes a namespace that goes with the scenario, of the mesh or not.
    pub fn namespace(&self, name: &str, meshed: bool) -> Result<()> {
        self.cluster.kubectl(&["create", "namespace", name])?;
        self.cluster.kubectl(&["label", "namespace", name, OURS])?;
        if meshed {
            self.cluster.kubectl(&["label", "namespace", name, &format!("{LABEL}=enabled")])?;
        }
        Ok(())
    }

    /// Waits until all that is rolled out in the namespace is there.
    pub fn rolled_out(&self, namespace: &str) -> Result<()> {
        let limit = format!("--timeout={}s", LONG.as_secs());
        for kind in ["deployment", "daemonset"] {
            let there = self.cluster.kubectl(&["get", kind, "--namespace", namespace, "--output", "name"])?;
            for name in there.lines() {
                self.cluster.kubectl(&["rollout", "status", name, "--namespace", namespace, &limit])?;
            }
        }
        Ok(())
    }

    /// Runs a client of `weft-app` in a pod (`deployment/web` names one of its pods) and gives its result; a failed call
    /// is a result as well.
    pub fn app(&self, namespace: &str, pod: &str, args: &[&str]) -> Result<Value> {
        let all = [&["exec", "--namespace", namespace, pod, "--", "weft-app"], args].concat();
        let output = process::output(self.cluster.client().command(&all), Duration::from_secs(60))?;
        let said = String::from_utf8_lossy(&output.stdout);
        let line = said.lines().last().unwrap_or_default();
        serde_json::from_str(line).with_context(|| {
            let error = String::from_utf8_lossy(&output.stderr);
            format!("weft-app {} in {pod} printed {said:?} and {error:?}", args.join(" "))
        })
    }

    /// Starts a client of `weft-app` in a pod that goes on while other things happen.
    pub fn load(&self, namespace: &str, pod: &str, args: &[&str]) -> Result<Load> {
        let all = [&["exec", "--namespace", namespace, pod, "--", "weft-app"], args].concat();
        let mut command = self.cluster.client().command(&all);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Ok(Load { child: Some(command.spawn()?), what: args.join(" ") })
    }

    /// The address of the one pod behind `app=<name>`.
    pub fn pod_address(&self, namespace: &str, name: &str) -> Result<String> {
        let selector = format!("app={name}");
        let pods = self.cluster.json(&["get", "pods", "--namespace", namespace, "--selector", &selector])?;
        let pods = pods["items"].as_array().into_iter().flatten();
        let mut living = pods.filter(|pod| pod["metadata"]["deletionTimestamp"].is_null());
        let address = living.next().and_then(|pod| pod["status"]["podIP"].as_str());
        Ok(address.with_context(|| format!("no pod {name} in {namespace} has an address"))?.to_owned())
    }

    /// The address of the pod of this name.
    pub fn pod_address_of(&self, namespace: &str, name: &str) -> Result<String> {
        let get = ["get", "pod", name, "--namespace", namespace, "--output", "jsonpath={.status.podIP}"];
        let address = self.cluster.kubectl(&get)?;
        ensure!(!address.is_empty(), "{name} in {namespace} has no address yet");
        Ok(address)
    }

    /// The name of the agent's pod on a node; of several, one that does not end.
    pub fn agent(&self, node: &str) -> Result<String> {
        let on = format!("--field-selector=spec.nodeName={node}");
        let selector = ["--selector=app.kubernetes.io/name=weft-agent", &on];
        let get = [&["get", "pods", "--namespace", SYSTEM], &selector[..]].concat();
        let pods = self.cluster.json(&get)?;
        let pods = pods["items"].as_array().into_iter().flatten();
        let mut living = pods.filter(|pod| pod["metadata"]["deletionTimestamp"].is_null());
        let name = living.next().and_then(|pod| pod["metadata"]["name"].as_str());
        Ok(name.with_context(|| format!("no agent on {node}"))?.to_owned())
    }

    /// The address of a Service.
    pub fn service_address(&self, namespace: &str, name: &str) -> Result<String> {
        let path = "jsonpath={.spec.clusterIP}";
        self.cluster.kubectl(&["get", "service", name, "--namespace", namespace, "--output", path])
    }

    /// Removes the namespaces of the scenario, and waits until they are gone.
    pub fn clean(&self) -> Result<()> {
        let limit = format!("--timeout={}s", LONG.as_secs());
        self.cluster.kubectl(&["delete", "namespace", "--selector", OURS, "--wait=true", &limit]).map(drop)
    }

    /// Tells what is known of the mesh's own pods: a failed scenario is read from its output alone.
    pub fn tell(&self) {
        for args in [
            &["get", "pods", "--all-namespaces", "--output=wide"][..],
            &["get", "nodes", "--output=custom-columns=NAME:.metadata.name,TAINTS:.spec.taints"],
            &["get", "events", "--all-namespaces", "--field-selector=type=Warning"],
            &[
                "logs",
                "--namespace",
                SYSTEM,
                "--selector=app.kubernetes.io/name=weft-control",
                "--tail=30",
                "--prefix",
            ],
            &[
                "logs",
                "--namespace",
                SYSTEM,
                "--selector=app.kubernetes.io/name=weft-agent",
                "--tail=40",
                "--prefix",
            ],
        ] {
            match self.cluster.kubectl(args) {
                Ok(said) => println!("---- kubectl {}\n{said}", args.join(" ")),
                Err(error) => println!("---- {error:#}"),
            }
        }
    }
}

/// A client that goes on in a pod.
pub struct Load {
    child: Option<std::process::Child>,
    what: String,
}

impl Load {
    /// Waits for its end and gives its result.
    pub fn result(mut self) -> Result<Value> {
        let child = self.child.take().context("the load was taken already")?;
        let output = child.wait_with_output()?;
        let said = String::from_utf8_lossy(&output.stdout);
        serde_json::from_str(said.lines().last().unwrap_or_default()).with_context(|| {
            format!(
                "weft-app {} printed {said:?} and {:?}",
                self.what,
                String::from_utf8_lossy(&output.stderr)
            )
        })
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().ok();
            child.wait().ok();
        }
    }
}

/// How many of a load's connections failed.
pub fn failures(load: &Value) -> u64 {
    let counts = load["failures"].as_object().into_iter().flatten();
    counts.filter_map(|(_, count)| count.as_u64()).sum()
}

/// Tries until it works, and gives how long that took; the last error after `limit`.
pub fn timed(limit: Duration, mut attempt: impl FnMut() -> Result<()>) -> Result<Duration> {
    let begun = Instant::now();
    loop {
        match attempt() {
            Ok(()) => return Ok(begun.elapsed()),
            Err(error) if begun.elapsed() > limit => bail!("still so after {limit:?}: {error:#}"),
            Err(_) => std::thread::sleep(Duration::from_millis(100)),
        }
    }
}
