//! How an installed Weft fares.

use super::Finding;
use crate::admin::proto::Status;
use k8s_openapi::api::{
    apps::v1::{DaemonSet, Deployment},
    core::v1::ConfigMap,
};
use std::collections::BTreeMap;

pub const CONTROL: &str = "control";
pub const AGENTS: &str = "agents";
pub const ROOTS: &str = "root certificates";
const NODES: &str = "nodes";
const CERTIFICATES: &str = "certificates";
const GUARD: &str = "guard of starting pods";
const PODS: &str = "pods of the mesh";
const VERSIONS: &str = "versions";

/// Nodes named in one line.
const NAMED: usize = 5;

pub fn control(control: Option<&Deployment>) -> Finding {
    let Some(control) = control else {
        let mend = "install it: helm install weft -n weft-system --create-namespace";
        return Finding::bad(CONTROL, "there is no Deployment weft-control", mend);
    };
    let wanted = control.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1);
    let ready = control.status.as_ref().and_then(|s| s.ready_replicas).unwrap_or(0);
    let found = format!("{ready} of {wanted} replicas are ready");
    let mend = "kubectl describe pods -n weft-system -l app.kubernetes.io/name=weft-control";
    match ready {
        0 => Finding::bad(CONTROL, found, mend),
        ready if ready < wanted => Finding::look(CONTROL, found, mend),
        _ => Finding::ok(CONTROL, found),
    }
}

pub fn agents(set: Option<&DaemonSet>) -> Finding {
    let Some(status) = set.and_then(|set| set.status.as_ref()) else {
        let mend = "install it: helm install weft -n weft-system --create-namespace";
        return Finding::bad(AGENTS, "there is no DaemonSet weft-agent", mend);
    };
    let (wanted, ready) = (status.desired_number_scheduled, status.number_ready);
    let found = format!("ready on {ready} of {wanted} nodes");
    let mend = "kubectl describe pods -n weft-system -l app.kubernetes.io/name=weft-agent";
    match ready < wanted {
        true => Finding::bad(AGENTS, found, mend),
        false if status.updated_number_scheduled.unwrap_or(0) < wanted => {
            Finding::look(AGENTS, format!("{found}; an update is under way"), "wait for it")
        }
        false => Finding::ok(AGENTS, found),
    }
}

pub fn roots(map: Option<&ConfigMap>) -> Finding {
    let pem = map.and_then(|map| map.data.as_ref()?.get("root-cert.pem"));
    match pem.map(|pem| pem.matches("BEGIN CERTIFICATE").count()) {
        None | Some(0) => Finding::bad(
            ROOTS,
            "the ConfigMap weft-ca-root holds none",
            "control writes it: kubectl logs -n weft-system deployment/weft-control",
        ),
        Some(1) => Finding::ok(ROOTS, "one"),
        Some(n) => Finding::ok(ROOTS, format!("{n}: one follows another")),
    }
}

/// What the agents say of themselves.
pub fn answers(nodes: &BTreeMap<String, Status>, errors: &BTreeMap<String, String>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let unready = nodes.iter().filter(|(_, s)| !s.ready);
    let unready = unready.map(|(node, s)| format!("{node} waits for {}", s.waiting_for.join(", ")));
    let away = nodes.iter().filter(|(_, s)| !s.control.as_ref().is_some_and(|c| c.connected));
    let away = away.map(|(node, s)| {
        let why = s.control.as_ref().map(|c| c.last_error.as_str()).unwrap_or_default();
        format!("{node} is away from control ({why})")
    });
    let silent = errors.iter().map(|(node, why)| format!("{node}: {why}"));
    let troubled: Vec<_> = unready.chain(away).chain(silent).collect();
    let all = nodes.len() + errors.len();
    findings.push(match troubled.is_empty() {
        true => Finding::ok(NODES, format!("{all} agents are ready and in touch with control")),
        false => Finding::bad(
            NODES,
            some_of(&troubled),
            "weft-agent --kube --node NODE status; logs of the agent's pod",
        ),
    });
    let failing = nodes.iter().flat_map(|(node, s)| {
        s.failing_certificates.iter().map(move |c| format!("{node}: {}: {}", c.identity, c.last_error))
    });
    let failing: Vec<_> = failing.collect();
    let held: u64 = nodes.values().filter_map(|s| s.totals.as_ref()).map(|t| t.certificates).sum();
    findings.push(match failing.is_empty() {
        true => Finding::ok(CERTIFICATES, format!("{held}, all valid")),
        false => Finding::bad(
            CERTIFICATES,
            some_of(&failing),
            "kubectl logs -n weft-system deployment/weft-control says why it issues none",
        ),
    });
    findings.push(guarded(nodes));
    let failed = nodes.iter().flat_map(|(node, s)| {
        let failed = s.pods.iter().filter(|p| p.state == "failed");
        failed.map(move |p| format!("{node}: {}/{}: {}", p.namespace, p.name, p.error))
    });
    let failed: Vec<_> = failed.collect();
    let enrolled = nodes.values().flat_map(|s| &s.pods).filter(|p| p.state == "enrolled").count();
    let beside = nodes.iter().flat_map(|(node, s)| {
        let some = s.pods.iter().filter(|p| !p.warning.is_empty());
        some.map(move |p| format!("{node}: {}/{}: {}", p.namespace, p.name, p.warning))
    });
    let beside: Vec<_> = beside.collect();
    findings.push(match failed.is_empty() {
        true if !beside.is_empty() => Finding::look(PODS, some_of(&beside), "the message names it"),
        true => Finding::ok(PODS, format!("{enrolled} enrolled")),
        false => Finding::bad(PODS, some_of(&failed), "the message names it"),
    });
    findings
}

/// What keeps pods from the mesh until they are known.
fn guarded(nodes: &BTreeMap<String, Status>) -> Finding {
    let guards = || nodes.iter().filter_map(|(node, s)| Some((node, s.guard.as_ref()?)));
    let loose = guards().filter(|(_, guard)| guard.mode != "off" && guard.cgroup.is_empty());
    let loose: Vec<_> = loose.map(|(node, guard)| format!("{node}: {}", guard.error)).collect();
    if !loose.is_empty() {
        return Finding::bad(
            GUARD,
            some_of(&loose),
            "the message names it; until then the first packets of a pod may go unprotected",
        );
    }
    let waiting = guards().filter(|(_, guard)| !guard.waiting.is_empty());
    let waiting: Vec<_> =
        waiting.map(|(node, guard)| format!("{node}: {}", guard.waiting.join(", "))).collect();
    if !waiting.is_empty() {
        let mend =
            "a pod waits for a moment when it starts; for longer, see the pods of the mesh and control's log";
        return Finding::look(GUARD, format!("pods wait until they are known: {}", some_of(&waiting)), mend);
    }
    let off = guards().filter(|(_, guard)| guard.mode == "off").count();
    match off {
        0 => Finding::ok(GUARD, format!("attached on {} nodes, nobody waits", guards().count())),
        off => Finding::look(GUARD, format!("off on {off} nodes"), "set agent.guard, unless that is meant"),
    }
}

/// The version in the image's tag.
pub fn version(control: &Deployment) -> Option<String> {
    let image = control.spec.as_ref()?.template.spec.as_ref()?.containers.first()?.image.as_ref()?;
    let name = image.split('@').next()?;
    Some(name.rsplit_once(':')?.1.trim_start_matches('v').to_owned())
}

/// Agents and control may be one minor version apart.
pub fn skew(control: Option<&str>, nodes: &BTreeMap<String, Status>) -> Finding {
    let mut versions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (node, status) in nodes {
        versions.entry(&status.version).or_default().push(node);
    }
    let list = versions.iter().map(|(version, nodes)| format!("{version} on {} nodes", nodes.len()));
    let list = list.collect::<Vec<_>>().join(", ");
    let Some((name, control)) = control.and_then(|v| Some((v, minor(v)?))) else {
        return Finding::look(
            VERSIONS,
            format!("agents {list}; control's image has no version"),
            "tag it with one",
        );
    };
    let found = format!("control {name}, agents {list}");
    let far =
        |version: &&str| !minor(version).is_some_and(|m| m.0 == control.0 && m.1.abs_diff(control.1) <= 1);
    match versions.keys().any(far) {
        true => Finding::bad(
            VERSIONS,
            found,
            "upgrade step by step: agents and control at most one minor version apart",
        ),
        false => Finding::ok(VERSIONS, found),
    }
}

fn minor(version: &str) -> Option<(u32, u32)> {
    let mut numbers = version.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// The first few, and how many more.
pub fn some_of(all: &[String]) -> String {
    let more = all.len().saturating_sub(NAMED);
    let more = if more > 0 { format!("; and {more} more") } else { String::new() };
    format!("{}{more}", all.iter().take(NAMED).cloned().collect::<Vec<_>>().join("; "))
}

#[cfg(test)]
mod tests {
    use super::{super::State, *};
    use crate::admin::proto::{Control, Guard, Pod};
    use serde_json::json;

    fn status(version: &str, connected: bool) -> Status {
        let control = Some(Control { connected, last_error: "refused".into(), ..Control::default() });
        Status { ready: true, version: version.into(), control, ..Status::default() }
    }

    fn nodes(all: Vec<(&str, Status)>) -> BTreeMap<String, Status> {
        all.into_iter().map(|(node, status)| (node.to_owned(), status)).collect()
    }

    #[test]
    fn agents_that_are_unwell_are_named() {
        let failed =
            Pod { state: "failed".into(), name: "web".into(), error: "no room".into(), ..Pod::default() };
        let unwell = Status { pods: vec![failed], ..status("0.1.0", false) };
        let errors = BTreeMap::from([("n3".to_owned(), "no answer".to_owned())]);
        let found = answers(&nodes(vec![("n1", status("0.1.0", true)), ("n2", unwell)]), &errors);
        assert_eq!(found[0].found, "n2 is away from control (refused); n3: no answer");
        let states = [State::Bad, State::Ok, State::Ok, State::Bad];
        assert_eq!(found.iter().map(|f| f.state).collect::<Vec<_>>(), states);
        assert!(
            answers(&nodes(vec![("n1", status("0.1.0", true))]), &BTreeMap::new())
                .iter()
                .all(|f| f.state == State::Ok)
        );
    }

    #[test]
    fn a_guard_that_is_not_attached_is_bad_and_who_waits_is_named() {
        let with = |mode: &str, cgroup: &str, waiting: &[&str]| {
            let waiting = waiting.iter().map(|pod| (*pod).to_owned()).collect();
            let guard = Guard { mode: mode.into(), cgroup: cgroup.into(), waiting, ..Guard::default() };
            guarded(&nodes(vec![("n1", Status { guard: Some(guard), ..status("0.1.0", true) })]))
        };
        assert_eq!(with("mesh", "/sys/fs/cgroup/kubepods", &[]).state, State::Ok);
        assert_eq!(with("mesh", "", &[]).state, State::Bad);
        assert_eq!(with("off", "", &[]).state, State::Look);
        let waits = with("all", "/sys/fs/cgroup/kubepods", &["shop/web"]);
        assert!(waits.state == State::Look && waits.found.contains("n1: shop/web"), "{waits:?}");
    }

    #[test]
    fn one_minor_version_apart_is_near_enough() {
        let at = |version: &str| nodes(vec![("n1", status(version, true))]);
        assert_eq!(skew(Some("0.2.3"), &at("0.1.0")).state, State::Ok);
        assert_eq!(skew(Some("0.3.0"), &at("0.1.0")).state, State::Bad);
        assert_eq!(skew(Some("1.1.0"), &at("0.1.0")).state, State::Bad);
        assert_eq!(skew(None, &at("0.1.0")).state, State::Look);
    }

    #[test]
    fn a_control_that_is_not_ready_is_bad_and_half_of_it_is_to_be_looked_at() {
        let control = |ready| -> Deployment {
            serde_json::from_value(
                json!({"spec": {"replicas": 2, "selector": {}, "template": {"spec": {"containers": [
                {"name": "control", "image": "r.example:5000/weft/control:v0.1.0@sha256:00"}]}}},
                "status": {"readyReplicas": ready}}),
            )
            .unwrap()
        };
        let states = [0, 1, 2].map(|ready| super::control(Some(&control(ready))).state);
        assert_eq!(states, [State::Bad, State::Look, State::Ok]);
        assert_eq!(version(&control(2)).as_deref(), Some("0.1.0"));
    }
}
