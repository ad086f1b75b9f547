//! The files in a node's /etc.

use super::ETC;
use crate::{
    files,
    plan::{NodePlan, Plan},
};
use anyhow::Result;
use serde_json::json;
use std::path::Path;

/// The image of the containers that hold pods' namespaces.
pub(crate) const PAUSE: &str = "weft.dev/pause:1";

/// Where the plugins may be: Debian's place, and the projects' own.
const PLUGINS: [&str; 2] = ["/usr/lib/cni", "/opt/cni/bin"];

/// Writes all that a node reads but its keys, below `etc`.
pub(super) fn write(etc: &Path, plan: &Plan, node: &NodePlan) -> Result<()> {
    let text = |path: &str, content: &str| files::write(&etc.join(path), content);
    text("hostname", &format!("{}\n", node.name))?;
    text("hosts", &hosts(plan))?;
    // The machine's own would be asked for names that this cluster does not know; it has no way out anyhow.
    text("resolv.conf", "# no resolver outside the cluster\n")?;
    text("machine-id", &machine_id(node))?;
    text("containerd/config.toml", &containerd())?;
    text("cni/net.d/10-weft-cluster.conflist", &cni(node).to_string())?;
    text("kubernetes/kubelet.yaml", &kubelet(plan, node).to_string())?;
    text("kubernetes/kube-proxy.yaml", &proxy(plan, node).to_string())
}

fn hosts(plan: &Plan) -> String {
    let nodes = plan.node_plans().into_iter();
    let lines = nodes.flat_map(|node| {
        let name = node.name.clone();
        node.addresses.all().into_iter().map(move |address| format!("{address} {name}\n"))
    });
    format!("127.0.0.1 localhost\n::1 localhost\n{}", lines.collect::<String>())
}

/// Thirty-two digits that no other node has.
fn machine_id(node: &NodePlan) -> String {
    let hex: String = node.netns.bytes().rev().map(|byte| format!("{byte:02x}")).collect();
    format!("{hex:0<32.32}\n")
}

fn containerd() -> String {
    let plugins = PLUGINS.iter().find(|path| Path::new(path).join("ptp").exists()).unwrap_or(&PLUGINS[0]);
    // Without CAP_SYS_RESOURCE (in most containers), no process may lower its OOM score.
    format!(
        r#"version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.devmapper"]

[grpc]
address = "/run/containerd/containerd.sock"

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{PAUSE}"
restrict_oom_score_adj = true

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
SystemdCgroup = false

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{plugins}"
conf_dir = "/{ETC}/cni/net.d"
"#
    )
}

/// Each pod on a link of its own, so that also what goes between two pods of a node by a Service's address passes
/// the node's tables on the way back; on a bridge it would not.
fn cni(node: &NodePlan) -> serde_json::Value {
    let ranges: Vec<_> = node.pods.iter().map(|range| json!([{"subnet": range}])).collect();
    let routes: Vec<_> = node
        .pods
        .iter()
        .map(|range| json!({"dst": if range.contains(':') { "::/0" } else { "0.0.0.0/0" }}))
        .collect();
    json!({
        "cniVersion": "0.4.0",
        "name": "weft-cluster",
        "plugins": [{
            "type": "ptp",
            "ipMasq": false,
            // A node that starts anew has no pods, and gives all addresses out again.
            "ipam": {"type": "host-local", "dataDir": "/run/cni", "ranges": ranges, "routes": routes},
        }],
    })
}

fn kubelet(plan: &Plan, node: &NodePlan) -> serde_json::Value {
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": false},
            "webhook": {"enabled": true},
            "x509": {"clientCAFile": "/etc/kubernetes/ca.crt"},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": "/etc/kubernetes/node.crt",
        "tlsPrivateKeyFile": "/etc/kubernetes/node.key",
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": format!("/{}", node.cgroup),
        "failCgroupV1": false,
        "enforceNodeAllocatable": ["pods"],
        "clusterDomain": "cluster.local",
        "clusterDNS": [plan.dns_service()],
        "resolvConf": "/etc/resolv.conf",
        "failSwapOn": false,
        "oomScoreAdj": 0,
        // The disk's device is not seen from inside, and the machine's space is not the cluster's to watch.
        "localStorageCapacityIsolation": false,
        "evictionHard": {"memory.available": "10Mi", "nodefs.available": "0%", "imagefs.available": "0%",
            "nodefs.inodesFree": "0%", "imagefs.inodesFree": "0%"},
        "imageGCHighThresholdPercent": 100,
        "nodeStatusUpdateFrequency": "5s",
        "makeIPTablesUtilChains": false,
        "serializeImagePulls": false,
        "registerNode": true,
    })
}

fn proxy(plan: &Plan, node: &NodePlan) -> serde_json::Value {
    json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "hostnameOverride": node.name,
        "clusterCIDR": plan.pods().join(","),
        "clientConnection": {"kubeconfig": "/etc/kubernetes/kube-proxy.kubeconfig"},
        "oomScoreAdj": 0,
        // These belong to the whole machine.
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
    })
}
