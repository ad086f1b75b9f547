//! What a cluster needs before Weft is installed.

use super::Finding;
use k8s_openapi::{
    api::core::v1::{Namespace, Node},
    apimachinery::pkg::version::Info,
};

pub const API: &str = "Kubernetes";
pub const PERMISSIONS: &str = "your permissions";
pub const KERNELS: &str = "kernels";
pub const RUNTIMES: &str = "container runtimes";
pub const TYPES: &str = "types of policies";
pub const OTHERS: &str = "other meshes";
pub const SECURITY: &str = "pod security";

/// The oldest API that the chart accepts.
const OLDEST_API: u32 = 30;
/// The oldest kernel, as in the check of a machine.
const OLDEST_KERNEL: (u32, u32) = (5, 18);

/// What an install creates: group, resource, and whether in Weft's namespace.
pub const INSTALLED: &[(&str, &str, bool)] = &[
    ("", "namespaces", false),
    ("rbac.authorization.k8s.io", "clusterroles", false),
    ("rbac.authorization.k8s.io", "clusterrolebindings", false),
    ("apiextensions.k8s.io", "customresourcedefinitions", false),
    ("rbac.authorization.k8s.io", "roles", true),
    ("rbac.authorization.k8s.io", "rolebindings", true),
    ("apps", "daemonsets", true),
    ("apps", "deployments", true),
    ("policy", "poddisruptionbudgets", true),
    ("networking.k8s.io", "networkpolicies", true),
    ("", "serviceaccounts", true),
    ("", "services", true),
    ("", "configmaps", true),
    // Where helm keeps its releases.
    ("", "secrets", true),
];

/// Meshes, by the DaemonSet or Deployment that each has.
const MESHES: [(&str, &str, &str); 5] = [
    (
        "ztunnel",
        "Istio (ambient)",
        "label no namespace for both meshes: istio.io/dataplane-mode and weft.dev/mesh exclude each other",
    ),
    ("istiod", "Istio", "pods with Istio's sidecar stay out of Weft; label no namespace for both"),
    (
        "linkerd-destination",
        "Linkerd",
        "pods with Linkerd's proxy must not be in Weft; label no namespace for both",
    ),
    (
        "kuma-control-plane",
        "Kuma",
        "pods with Kuma's sidecar must not be in Weft; label no namespace for both",
    ),
    (
        "cilium",
        "Cilium",
        "with kube-proxy replacement set socketLB.hostNamespaceOnly=true, or Cilium chooses endpoints before Weft sees the Service",
    ),
];

pub fn api(version: &Info) -> Finding {
    let digits = |text: &str| text.trim_end_matches(|c: char| !c.is_ascii_digit()).parse::<u32>().ok();
    let new_enough = match (digits(&version.major), digits(&version.minor)) {
        (Some(1), Some(minor)) => minor >= OLDEST_API,
        (Some(major), _) if major > 1 => true,
        _ => return Finding::look(API, format!("a version that says nothing: {}", version.git_version), ""),
    };
    match new_enough {
        true => Finding::ok(API, version.git_version.clone()),
        false => {
            Finding::bad(API, version.git_version.clone(), format!("upgrade to 1.{OLDEST_API} or newer"))
        }
    }
}

pub fn permissions(missing: &[&str]) -> Finding {
    match missing.is_empty() {
        true => Finding::ok(PERMISSIONS, "enough to install"),
        false => Finding::look(
            PERMISSIONS,
            format!("may not create {}", missing.join(", ")),
            "install as a cluster-admin",
        ),
    }
}

/// Kernels, systems and runtimes of all nodes.
pub fn nodes(nodes: &[Node]) -> Vec<Finding> {
    let info = |n: &Node| Some((n.metadata.name.clone()?, n.status.as_ref()?.node_info.clone()?));
    let known: Vec<_> = nodes.iter().filter_map(info).collect();
    let (mut old, mut strange) = (Vec::new(), Vec::new());
    let mut runtimes: Vec<String> = Vec::new();
    let mut carried = 0;
    for (name, info) in &known {
        let has_ours = matches!(info.architecture.as_str(), "amd64" | "arm64");
        if info.operating_system != "linux" || !has_ours {
            strange.push(format!("{name} ({}/{})", info.operating_system, info.architecture));
            continue;
        }
        carried += 1;
        match kernel(&info.kernel_version) {
            Some(version) if version >= OLDEST_KERNEL => {}
            _ => old.push(format!("{name} ({})", info.kernel_version)),
        }
        if !runtimes.contains(&info.container_runtime_version) {
            runtimes.push(info.container_runtime_version.clone());
        }
    }
    let mut findings = vec![match old.is_empty() {
        true => Finding::ok(KERNELS, format!("{carried} of {} nodes can carry the mesh", nodes.len())),
        false => Finding::bad(
            KERNELS,
            format!("too old: {}", old.join(", ")),
            "use a kernel from 5.18 on, or keep agents off these nodes by agent.nodeSelector",
        ),
    }];
    if !strange.is_empty() {
        let mend = "pods of the mesh must not run there; the others are none of Weft's business";
        findings.push(Finding::look("systems", format!("no agent for {}", strange.join(", ")), mend));
    }
    runtimes.sort();
    findings.push(Finding::ok(RUNTIMES, runtimes.join(", ")));
    findings
}

/// The first two numbers of a release such as `6.1.0-13-amd64`.
fn kernel(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

pub fn types(crds: &[&str]) -> Finding {
    let wanted = ["authorizationpolicies.security.istio.io", "peerauthentications.security.istio.io"];
    let missing: Vec<_> = wanted.into_iter().filter(|name| !crds.contains(name)).collect();
    match missing.is_empty() {
        true => Finding::ok(TYPES, "AuthorizationPolicy and PeerAuthentication are there"),
        false => Finding::ok(TYPES, format!("the chart brings {}", missing.join(" and "))),
    }
}

/// What else is at work, of the names of DaemonSets and Deployments.
pub fn others(names: &[(String, String)]) -> Finding {
    let found: Vec<_> = MESHES
        .iter()
        .filter_map(|(object, mesh, mend)| {
            let (namespace, _) = names.iter().find(|(_, name)| name == object)?;
            Some((format!("{mesh} in {namespace}"), *mend))
        })
        .collect();
    match found.is_empty() {
        true => Finding::ok(OTHERS, "none"),
        false => {
            let (found, mends): (Vec<_>, Vec<_>) = found.into_iter().unzip();
            Finding::look(OTHERS, found.join(", "), mends.join("; "))
        }
    }
}

pub fn security(name: &str, namespace: Option<&Namespace>) -> Finding {
    let label = "pod-security.kubernetes.io/enforce";
    let level = namespace.and_then(|n| n.metadata.labels.as_ref()?.get(label));
    match (namespace, level.map(String::as_str)) {
        (None, _) => Finding::ok(SECURITY, format!("the namespace {name} is not there yet")),
        (Some(_), Some("privileged")) => Finding::ok(SECURITY, "privileged"),
        (Some(_), None) => Finding::ok(SECURITY, "the namespace has no level of its own"),
        (Some(_), Some(level)) => Finding::bad(
            SECURITY,
            format!("the level {level} keeps agents out"),
            format!("kubectl label namespace {name} --overwrite {label}=privileged"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::State, *};
    use serde_json::json;

    fn node(name: &str, kernel: &str, system: &str) -> Node {
        serde_json::from_value(json!({"metadata": {"name": name}, "status": {"nodeInfo": {
            "kernelVersion": kernel, "operatingSystem": system, "architecture": "amd64",
            "containerRuntimeVersion": "containerd://1.7.2", "bootID": "", "kubeProxyVersion": "",
            "kubeletVersion": "", "machineID": "", "osImage": "", "systemUUID": ""}}}))
        .unwrap()
    }

    #[test]
    fn old_kernels_and_other_systems_are_named() {
        let all =
            [node("a", "6.1.0-13-amd64", "linux"), node("b", "5.4.0", "linux"), node("w", "10.0", "windows")];
        let found = nodes(&all);
        assert_eq!(found[0].state, State::Bad);
        assert_eq!(found[0].found, "too old: b (5.4.0)");
        assert!(found[1].found.contains("w (windows/amd64)"), "{found:?}");
        assert_eq!(nodes(&all[..1])[0].state, State::Ok);
        assert_eq!((kernel("5.18.0"), kernel("x")), (Some((5, 18)), None));
    }

    #[test]
    fn versions_of_the_api_are_compared_by_number() {
        let info = |minor: &str| Info { major: "1".into(), minor: minor.into(), ..Info::default() };
        assert_eq!(api(&info("34")).state, State::Ok);
        assert_eq!(api(&info("30+")).state, State::Ok);
        assert_eq!(api(&info("29")).state, State::Bad);
        assert_eq!(api(&info("")).state, State::Look);
    }

    #[test]
    fn another_mesh_is_found_by_what_it_runs() {
        let names = |all: &[(&str, &str)]| -> Vec<_> {
            all.iter().map(|(ns, name)| ((*ns).to_owned(), (*name).to_owned())).collect()
        };
        let found = others(&names(&[("istio-system", "istiod"), ("kube-system", "cilium")]));
        assert_eq!(
            (found.state, found.found.as_str()),
            (State::Look, "Istio in istio-system, Cilium in kube-system")
        );
        assert_eq!(others(&names(&[("a", "web")])).state, State::Ok);
    }

    #[test]
    fn a_level_that_keeps_agents_out_is_bad() {
        let level = |level: &str| -> Namespace {
            serde_json::from_value(
                json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": level}}}),
            )
            .unwrap()
        };
        assert_eq!(security("x", Some(&level("baseline"))).state, State::Bad);
        assert_eq!(security("x", Some(&level("privileged"))).state, State::Ok);
        assert_eq!(security("x", None).state, State::Ok);
    }
}
