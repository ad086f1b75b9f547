//! Agents that do not start: an update stops at the first of them, while the agent before it goes on.

use super::{Finding, after::some_of};
use k8s_openapi::api::core::v1::Pod;

const STUCK: &str = "agents that do not start";

/// What a container waits for that has not run yet, where nothing is wrong.
const USUAL: [&str; 2] = ["ContainerCreating", "PodInitializing"];

/// The nodes with an agent that does not start, each with why; nothing where there is none.
pub fn agents(pods: &[Pod]) -> Option<Finding> {
    let mut stuck: Vec<_> = pods.iter().filter_map(stuck).collect();
    stuck.sort();
    let mend = "an agent that ran there before goes on: helm rollback weft -n weft-system, or upgrade to an image that \
                starts; kubectl describe pods -n weft-system -l app.kubernetes.io/name=weft-agent";
    (!stuck.is_empty()).then(|| Finding::bad(STUCK, some_of(&stuck), mend))
}

fn stuck(pod: &Pod) -> Option<String> {
    if pod.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let node = pod.spec.as_ref()?.node_name.as_deref()?;
    let container = pod.status.as_ref()?.container_statuses.as_ref()?.first()?;
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let say = |why: String| Some(format!("{node}: {name}: {why}"));
    let state = container.state.as_ref()?;
    let ended = [&container.state, &container.last_state].into_iter().flatten();
    let ended = ended.filter_map(|state| state.terminated.as_ref()).next();
    if let Some(ended) = ended.filter(|_| !container.ready) {
        let why = ended.message.as_deref().or(ended.reason.as_deref()).unwrap_or("it says nothing");
        let restarts = container.restart_count;
        return say(format!(
            "ends with exit code {} ({}); restarts: {restarts}",
            ended.exit_code,
            why.trim()
        ));
    }
    let waiting = state.waiting.as_ref()?;
    let reason = waiting.reason.as_deref().filter(|reason| !USUAL.contains(reason))?;
    say(match waiting.message.as_deref() {
        Some(message) => format!("{reason}: {message}"),
        None => reason.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(name: &str, restarts: u32, state: Value, last: Value) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": name},
            "spec": {"nodeName": "n1", "containers": []},
            "status": {"containerStatuses": [{"name": "agent", "image": "", "imageID": "", "ready": false,
                "restartCount": restarts, "state": state, "lastState": last}]},
        }))
        .unwrap()
    }

    #[test]
    fn nodes_and_reasons_are_named() {
        let waits = |reason: &str| json!({"waiting": {"reason": reason}});
        let ended = json!({"terminated": {"exitCode": 2, "reason": "Error"}});
        let all = [
            pod("b", 3, waits("CrashLoopBackOff"), ended),
            pod("a", 0, json!({"waiting": {"reason": "ErrImagePull", "message": "not found"}}), json!({})),
            pod("c", 0, waits("ContainerCreating"), json!({})),
            pod("d", 0, json!({"running": {}}), json!({})),
        ];
        let found = agents(&all).expect("two do not start");
        assert_eq!(
            found.found,
            "n1: a: ErrImagePull: not found; n1: b: ends with exit code 2 (Error); restarts: 3"
        );
        assert_eq!(agents(&all[2..]), None);
    }
}
