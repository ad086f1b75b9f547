//! The cluster, and where its agents are.

use super::error::KubeError;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client, Config, api::ListParams, config::KubeConfigOptions};
use std::{collections::BTreeMap, path::PathBuf, time::Duration};

/// What the chart calls the agents' pods.
const SELECTOR: &str = "app.kubernetes.io/name=weft-agent";
/// Pods in one answer of the API server.
const PAGE: u32 = 500;
/// The API server is near, or it is away.
const CONNECT: Duration = Duration::from_secs(10);

/// A cluster that can be asked.
pub struct Cluster {
    /// The API server's client.
    pub client: Client,
    /// Where Weft is installed.
    pub namespace: String,
}

/// The agent of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agent {
    /// The node.
    pub node: String,
    /// The pod.
    pub pod: String,
    /// Why it cannot be asked.
    pub problem: Option<String>,
}

impl Cluster {
    /// The cluster of the kubeconfig, or the one that this process runs in.
    pub async fn connect(
        kubeconfig: Option<PathBuf>,
        context: Option<String>,
        namespace: String,
    ) -> Result<Self, KubeError> {
        let mut config = read(kubeconfig, context).await?;
        config.connect_timeout = Some(CONNECT);
        let client = Client::try_from(config).map_err(|e| KubeError::Config(super::error::why(&e)))?;
        Ok(Self { client, namespace })
    }

    /// The pods of Weft's namespace.
    pub fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Every agent, or that of `node`.
    pub async fn agents(&self, node: Option<&str>) -> Result<Vec<Agent>, KubeError> {
        let agents = choose(&self.agents_pods(node).await?);
        match (agents.is_empty(), node) {
            (true, Some(node)) => Err(KubeError::NoAgentOn(node.to_owned())),
            (true, None) => Err(KubeError::NoAgents(self.namespace.clone())),
            (false, _) => Ok(agents),
        }
    }

    /// The pods of every agent, or of that of `node`: of one node, several while one follows another.
    pub async fn agents_pods(&self, node: Option<&str>) -> Result<Vec<Pod>, KubeError> {
        let mut wanted = ListParams::default().labels(SELECTOR).limit(PAGE);
        if let Some(node) = node {
            wanted = wanted.fields(&format!("spec.nodeName={node}"));
        }
        let (api, mut pods) = (self.pods(), Vec::new());
        loop {
            let page =
                api.list(&wanted).await.map_err(|e| KubeError::api("cannot list the agents' pods", &e))?;
            pods.extend(page.items);
            match page.metadata.continue_.filter(|next| !next.is_empty()) {
                Some(next) => wanted.continue_token = Some(next),
                None => return Ok(pods),
            }
        }
    }
}

async fn read(kubeconfig: Option<PathBuf>, context: Option<String>) -> Result<Config, KubeError> {
    let wrong = |e: &(dyn std::error::Error + 'static)| KubeError::Config(weft_io::told::whole(e));
    let options = KubeConfigOptions { context, ..KubeConfigOptions::default() };
    match kubeconfig {
        Some(path) => {
            let file = kube::config::Kubeconfig::read_from(path).map_err(|e| wrong(&e))?;
            Config::from_custom_kubeconfig(file, &options).await.map_err(|e| wrong(&e))
        }
        None if options.context.is_some() => Config::from_kubeconfig(&options).await.map_err(|e| wrong(&e)),
        None => Config::infer().await.map_err(|e| wrong(&e)),
    }
}

/// One pod for each node, in the order of the nodes: while one agent follows another there are two, and the one that
/// serves is asked.
fn choose(pods: &[Pod]) -> Vec<Agent> {
    let mut chosen: BTreeMap<&str, &Pod> = BTreeMap::new();
    for pod in pods {
        let Some(node) = pod.spec.as_ref().and_then(|s| s.node_name.as_deref()) else { continue };
        let better = chosen.get(node).is_none_or(|other| rank(pod) > rank(other));
        if better {
            chosen.insert(node, pod);
        }
    }
    let agent = |(node, pod): (&str, &Pod)| Agent {
        node: node.to_owned(),
        pod: pod.metadata.name.clone().unwrap_or_default(),
        problem: problem(pod),
    };
    chosen.into_iter().map(agent).collect()
}

/// Ready before running before the rest, those that stay before those that go, the young before the old.
fn rank(pod: &Pod) -> (bool, bool, bool, Option<String>) {
    let stays = pod.metadata.deletion_timestamp.is_none();
    let born = pod.metadata.creation_timestamp.as_ref().map(|t| t.0.to_string());
    (is_ready(pod), stays, problem(pod).is_none(), born)
}

/// Whether the pod says of itself that it is ready.
pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|s| s.conditions.iter().flatten());
    conditions.into_iter().any(|c| c.type_ == "Ready" && c.status == "True")
}

/// Why nothing can be run in the pod's container.
fn problem(pod: &Pod) -> Option<String> {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let status = pod.status.as_ref();
    let container = status.and_then(|s| s.container_statuses.as_ref()?.first());
    if container.and_then(|c| c.state.as_ref()?.running.as_ref()).is_some() {
        return None;
    }
    let phase = status.and_then(|s| s.phase.as_deref()).unwrap_or("not started");
    let waiting = container.and_then(|c| c.state.as_ref()?.waiting.as_ref());
    let why = waiting.and_then(|w| w.message.as_deref().or(w.reason.as_deref()));
    let why = why.map_or_else(String::new, |why| format!(" ({why})"));
    Some(format!("the pod {name} is {phase}{why}; `kubectl describe pod {name}` says more"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(name: &str, node: &str, status: Value, going: bool) -> Pod {
        let deletion = going.then_some("2026-01-01T00:00:00Z");
        serde_json::from_value(json!({
            "metadata": {"name": name, "deletionTimestamp": deletion},
            "spec": {"nodeName": node, "containers": []},
            "status": status,
        }))
        .unwrap()
    }

    fn running(ready: bool) -> Value {
        let ready = if ready { "True" } else { "False" };
        json!({"phase": "Running", "conditions": [{"type": "Ready", "status": ready}],
               "containerStatuses": [{"name": "agent", "image": "", "imageID": "", "ready": true, "restartCount": 0,
                                      "state": {"running": {}}}]})
    }

    #[test]
    fn while_one_follows_another_the_one_that_serves_is_asked() {
        let pods = [
            pod("next", "n1", running(false), false),
            pod("serves", "n1", running(true), false),
            pod("gone", "n2", running(false), true),
            pod("new", "n2", running(false), false),
            Pod::default(),
        ];
        let found: Vec<_> = choose(&pods).into_iter().map(|a| (a.node, a.pod, a.problem)).collect();
        assert_eq!(found, [("n1".into(), "serves".into(), None), ("n2".into(), "new".into(), None)]);
    }

    #[test]
    fn a_pod_that_does_not_run_says_why() {
        let status = json!({"phase": "Pending", "containerStatuses": [
            {"name": "agent", "image": "", "imageID": "", "ready": false, "restartCount": 0,
             "state": {"waiting": {"reason": "ImagePullBackOff"}}}]});
        let found = choose(&[pod("a", "n1", status, false)]);
        assert_eq!(
            found[0].problem.as_deref(),
            Some("the pod a is Pending (ImagePullBackOff); `kubectl describe pod a` says more")
        );
        assert!(choose(&[pod("a", "n1", json!({}), false)])[0].problem.is_some());
    }
}
