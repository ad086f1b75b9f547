//! An API server, replicas of control, and what they say.

use crate::{manifests, node::Node};
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};
use weft_cluster::{ControlPlane, Kubectl, control_plane::Temporary};
use weft_tests::{Process, binaries};

/// How long anything may take on a machine that has other things to do.
pub const LONG: Duration = Duration::from_secs(60);

/// An API server with what the shipped manifests give control.
pub struct Stage {
    pub api: Temporary,
    pub dir: tempfile::TempDir,
}

impl Stage {
    /// Without the types of policies.
    pub fn bare() -> Result<Self> {
        let api = ControlPlane::temporary("control")?;
        let stage = Self { api, dir: tempfile::tempdir()? };
        let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/manifests/weft.yaml");
        let shipped = fs::read_to_string(shipped).context(shipped)?;
        let kinds =
            ["Namespace", "ServiceAccount", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"];
        let is_wanted = |part: &&str| {
            part.lines().any(|line| line.strip_prefix("kind: ").is_some_and(|k| kinds.contains(&k.trim())))
        };
        let parts: Vec<&str> = shipped.split("\n---\n").filter(is_wanted).collect();
        ensure!(parts.len() >= 6, "the shipped manifests lack something: {parts:?}");
        stage.kubectl().apply(&parts.join("\n---\n"))?;
        stage.kubectl().apply(manifests::SHOP)?;
        Ok(stage)
    }

    /// With everything.
    pub fn new() -> Result<Self> {
        let stage = Self::bare()?;
        stage.install_policies()?;
        Ok(stage)
    }

    pub fn install_policies(&self) -> Result<()> {
        self.serve_policies(&[("v1", true)])
    }

    /// Has the types of policies served, or only known, in these versions.
    pub fn serve_policies(&self, versions: &[(&str, bool)]) -> Result<()> {
        self.kubectl().apply(&manifests::policy_types(versions))?;
        self.kubectl().run(&[
            "wait",
            "--for=condition=Established",
            "--timeout=60s",
            "crd/authorizationpolicies.security.istio.io",
            "crd/peerauthentications.security.istio.io",
        ])?;
        Ok(())
    }

    pub fn kubectl(&self) -> Kubectl {
        self.api.kubectl()
    }

    /// A running pod with an address.
    pub fn pod(&self, name: &str, account: &str, node: &str, ip: &str) -> Result<()> {
        self.kubectl().apply(&manifests::pod("shop", name, account, node))?;
        let status = format!(
            r#"{{"status":{{"phase":"Running","podIP":"{ip}","podIPs":[{{"ip":"{ip}"}}],"conditions":[{{"type":"Ready","status":"True"}}]}}}}"#
        );
        self.kubectl().run(&["patch", "pod", name, "-n", "shop", "--subresource=status", "-p", &status])?;
        Ok(())
    }

    /// A replica, ready.
    pub fn control(&self, name: &str, flags: &[&str]) -> Result<Replica> {
        let mut replica = self.unready_control(name, flags)?;
        replica.until("ready", |r| Ok(r.get("/readyz")?.starts_with("ready")))?;
        Ok(replica)
    }

    /// A replica that may never be ready.
    pub fn unready_control(&self, name: &str, flags: &[&str]) -> Result<Replica> {
        let account = "system:serviceaccount:weft-system:weft-control";
        self.start_control(name, flags, &self.api.kubeconfig_for(account, None)?)
    }

    /// A replica that reads the API as this kubeconfig says.
    pub fn start_control(&self, name: &str, flags: &[&str], kubeconfig: &Path) -> Result<Replica> {
        let mut command = Command::new(binaries::find("weft-control")?);
        let any = "127.0.0.1:0";
        command.args(["run", "--kube", "--listen", any, "--monitoring", any]).args(flags);
        command.arg("--bound").arg(self.dir.path().join(format!("{name}.json")));
        command.env("KUBECONFIG", kubeconfig).env("POD_NAME", name);
        command.env_remove("KUBERNETES_SERVICE_HOST").env("NO_COLOR", "1");
        let mut process = Process::start(name, command, self.dir.path())?;
        let line = process.wait_for_line(LONG, |line| line.contains("monitoring port answers"))?;
        let at = line.rsplit("address=").next().context("no address in the log")?;
        let monitoring = at.trim().parse().with_context(|| line.clone())?;
        Ok(Replica { process, monitoring, bound: self.dir.path().join(format!("{name}.json")) })
    }

    /// The token of an agent that runs on `node`, as kubelet would project it.
    pub fn token(&self, node: &str, audience: &str) -> Result<PathBuf> {
        let pod = format!("weft-agent-{node}");
        self.kubectl().apply(&manifests::pod("weft-system", &pod, "weft-agent", node))?;
        let path = self.dir.path().join(format!("{pod}.{audience}.token"));
        fs::write(&path, self.bound_token("weft-system", "weft-agent", &pod, audience)?)?;
        Ok(path)
    }

    pub fn bound_token(&self, namespace: &str, account: &str, pod: &str, audience: &str) -> Result<String> {
        let found = self.kubectl().json(&["get", "pod", pod, "-n", namespace])?;
        let uid = found["metadata"]["uid"].as_str().context("a pod without a uid")?.to_owned();
        let kind = ["--bound-object-kind", "Pod", "--bound-object-name", pod, "--bound-object-uid", &uid];
        let token = ["create", "token", account, "-n", namespace, "--audience", audience];
        self.kubectl().run(&[&token[..], &kind].concat())
    }

    /// The roots as everybody finds them, once they are there.
    pub fn root(&self) -> Result<PathBuf> {
        let path = self.dir.path().join("root.pem");
        until("the roots are published", || {
            let map = self.kubectl().json(&["get", "configmap", "weft-ca-root", "-n", "weft-system"])?;
            let roots = map["data"]["root-cert.pem"].as_str().context("no roots")?;
            Ok(fs::write(&path, roots)?)
        })?;
        Ok(path)
    }

    /// An agent of `node` that is connected to `replica`.
    pub fn node(&self, node: &str, replica: &Replica) -> Result<Node> {
        Ok(Node::connect(node, replica.discovery()?, self.root()?, self.token(node, "weft-control")?))
    }
}

/// One replica of control.
pub struct Replica {
    pub process: Process,
    monitoring: SocketAddr,
    bound: PathBuf,
}

impl Replica {
    /// Where nodes connect.
    pub fn discovery(&self) -> Result<SocketAddr> {
        let bound: Value = serde_json::from_slice(&fs::read(&self.bound)?)?;
        Ok(bound["discovery"].as_str().context("no discovery")?.parse()?)
    }

    /// What the monitoring port answers.
    pub fn get(&self, path: &str) -> Result<String> {
        let mut stream = TcpStream::connect(self.monitoring)?;
        stream.set_read_timeout(Some(LONG))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text.split_once("\r\n\r\n").context("no body")?.1.to_owned())
    }

    /// One series of the metrics.
    pub fn metric(&self, series: &str) -> Result<u64> {
        let text = self.get("/metrics")?;
        let line = text.lines().find_map(|line| line.strip_prefix(series));
        line.with_context(|| format!("no {series} in {text}"))?.trim().parse().context("not a number")
    }

    /// What is wrong, one line each.
    pub fn findings(&self) -> Result<Vec<String>> {
        let list: Vec<Value> = serde_json::from_str(&self.get("/debug/findings")?)?;
        let text = |f: &Value, field: &str| f[field].as_str().unwrap_or_default().to_owned();
        let each = |f: &Value| {
            let name = f["object"]["name"].as_str().unwrap_or_default();
            let told = ["severity", "field", "message", "mend"].map(|field| text(f, field)).join("; ");
            format!("{name}: {told}")
        };
        Ok(list.iter().map(each).collect())
    }

    /// Waits for a finding with all these words in it.
    pub fn until_found(&mut self, words: &[&str]) -> Result<()> {
        self.until(&format!("a finding with {words:?}"), |r| {
            Ok(r.findings()?.iter().any(|f| words.iter().all(|w| f.contains(w))))
        })
    }

    /// Waits until something holds.
    pub fn until(&mut self, what: &str, holds: impl Fn(&Self) -> Result<bool>) -> Result<()> {
        let found = until(what, || if holds(self)? { Ok(()) } else { bail!("not so") });
        found.with_context(|| {
            format!("findings: {:#?}\n{}", self.findings(), self.process.log().unwrap_or_default())
        })
    }
}

/// Waits until something succeeds.
pub fn until<T>(what: &str, attempt: impl Fn() -> Result<T>) -> Result<T> {
    let end = Instant::now() + LONG;
    loop {
        match attempt() {
            Ok(value) => return Ok(value),
            Err(error) if Instant::now() > end => return Err(error.context(format!("never: {what}"))),
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}

/// Reads a file that others write.
pub fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| path.display().to_string())
}
