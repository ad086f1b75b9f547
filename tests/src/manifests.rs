//! The nodes and pods that a directory of Kubernetes manifests describes.
//!
//! Only what a machine needs in order to play them is read here; what they mean is for `weft-control` to say.

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use std::{
    collections::BTreeMap,
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
};

/// What was read from a directory.
#[derive(Clone, Debug, Default)]
pub struct Manifests {
    /// Where it was read from.
    pub directory: PathBuf,
    /// The nodes, by name.
    pub nodes: BTreeMap<String, NodeManifest>,
    /// The pods, by `<namespace>/<name>`.
    pub pods: BTreeMap<String, PodManifest>,
    /// The services, by `<namespace>/<name>`.
    pub services: BTreeMap<String, ServiceManifest>,
    /// The labels of namespaces, by name.
    pub namespaces: BTreeMap<String, BTreeMap<String, String>>,
}

/// An address of each family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dual {
    /// IPv4.
    pub v4: Ipv4Addr,
    /// IPv6.
    pub v6: Ipv6Addr,
}

impl Dual {
    /// Both, IPv4 first.
    pub fn both(self) -> [IpAddr; 2] {
        [self.v4.into(), self.v6.into()]
    }
}

/// A node.
#[derive(Clone, Debug)]
pub struct NodeManifest {
    /// Its `InternalIP`s.
    pub addresses: Dual,
    /// The ranges of its pods (`podCIDRs`), as `ip route` takes them.
    pub pod_ranges: Vec<String>,
}

/// A pod.
#[derive(Clone, Debug)]
pub struct PodManifest {
    /// `<namespace>/<name>`.
    pub key: String,
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
    /// The node.
    pub node: String,
    /// The service account.
    pub service_account: String,
    /// The unique id.
    pub uid: String,
    /// The addresses.
    pub addresses: Dual,
    /// The command and arguments of each container, in order.
    pub commands: Vec<Vec<String>>,
}

/// A service.
#[derive(Clone, Debug)]
pub struct ServiceManifest {
    /// The cluster addresses.
    pub addresses: Dual,
    /// The ports, in order.
    pub ports: Vec<u16>,
}

impl Manifests {
    /// Reads every `.yaml` file of a directory, in the order of their names.
    ///
    /// # Errors
    /// Names the file, and the object where there is one.
    pub fn read(directory: &Path) -> Result<Self> {
        let entries = fs::read_dir(directory)
            .with_context(|| format!("cannot read the manifests in {}", directory.display()))?;
        let mut files: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
        files.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
        files.sort();
        ensure!(!files.is_empty(), "no .yaml file in {}", directory.display());
        let mut manifests = Self { directory: directory.to_owned(), ..Self::default() };
        for file in files {
            let text = fs::read_to_string(&file)?;
            manifests.add(&text).with_context(|| format!("in {}", file.display()))?;
        }
        Ok(manifests)
    }

    /// Whether the pod's namespace takes part in the mesh.
    pub fn is_meshed(&self, pod: &PodManifest) -> bool {
        let labels = self.namespaces.get(&pod.namespace);
        labels.and_then(|labels| labels.get("weft.dev/mesh")).is_some_and(|value| value == "enabled")
    }

    /// Adds the objects of one file's text.
    fn add(&mut self, text: &str) -> Result<()> {
        for document in serde_yaml_ng::Deserializer::from_str(text) {
            let Some(object) = Option::<Object>::deserialize(document)? else { continue };
            let (kind, name) = (object.kind.clone(), object.metadata.name.clone());
            self.add_object(object).with_context(|| format!("{kind} {name}"))?;
        }
        Ok(())
    }

    fn add_object(&mut self, object: Object) -> Result<()> {
        let Object { kind, metadata, spec, status } = object;
        let key = format!("{}/{}", metadata.namespace, metadata.name);
        match kind.as_str() {
            "Namespace" => {
                self.namespaces.insert(metadata.name, metadata.labels);
            }
            "Node" => {
                let internal = status.addresses.into_iter().filter(|address| address.kind == "InternalIP");
                let addresses = dual(internal.map(|address| address.address))?;
                self.nodes.insert(metadata.name, NodeManifest { addresses, pod_ranges: spec.pod_cidrs });
            }
            "Service" => {
                let addresses = dual(spec.cluster_ips)?;
                let ports = spec.ports.into_iter().map(|port| port.port).collect();
                self.services.insert(key, ServiceManifest { addresses, ports });
            }
            "Pod" => {
                let addresses = dual(status.pod_ips.into_iter().map(|found| found.ip))?;
                let pod = PodManifest {
                    key: key.clone(),
                    namespace: metadata.namespace,
                    name: metadata.name,
                    node: spec.node_name,
                    service_account: spec.service_account_name,
                    uid: metadata.uid,
                    addresses,
                    commands: spec.containers.into_iter().map(Container::whole_command).collect(),
                };
                self.pods.insert(key, pod);
            }
            _ => {}
        }
        Ok(())
    }
}

/// One address of each family out of a list.
fn dual(addresses: impl IntoIterator<Item = String>) -> Result<Dual> {
    let (mut v4, mut v6) = (None, None);
    for address in addresses {
        match address.parse() {
            Ok(IpAddr::V4(found)) => v4 = Some(found),
            Ok(IpAddr::V6(found)) => v6 = Some(found),
            Err(_) => bail!("`{address}` is not an address"),
        }
    }
    Ok(Dual { v4: v4.context("has no IPv4 address")?, v6: v6.context("has no IPv6 address")? })
}

#[derive(Deserialize)]
struct Object {
    kind: String,
    metadata: Metadata,
    #[serde(default)]
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Deserialize)]
struct Metadata {
    name: String,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    uid: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

/// The fields of the kinds above; they do not overlap.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    node_name: String,
    service_account_name: String,
    containers: Vec<Container>,
    #[serde(rename = "podCIDRs")]
    pod_cidrs: Vec<String>,
    #[serde(rename = "clusterIPs")]
    cluster_ips: Vec<String>,
    ports: Vec<Port>,
}

#[derive(Deserialize)]
struct Port {
    #[serde(default)]
    port: u16,
}

#[derive(Deserialize)]
struct Container {
    #[serde(default)]
    command: Vec<String>,
    #[serde(default)]
    args: Vec<String>,
}

impl Container {
    fn whole_command(self) -> Vec<String> {
        [self.command, self.args].concat()
    }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    #[serde(rename = "podIPs")]
    pod_ips: Vec<PodIp>,
    addresses: Vec<NodeAddress>,
}

#[derive(Deserialize)]
struct PodIp {
    ip: String,
}

#[derive(Deserialize)]
struct NodeAddress {
    #[serde(rename = "type")]
    kind: String,
    address: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_read_and_what_it_lacks_is_named() {
        let pod = "kind: Pod\nmetadata: {name: web, namespace: shop, uid: u-1}\n\
                   spec: {nodeName: node-a, serviceAccountName: web, containers: [{command: [app], args: [x]}]}\n\
                   status: {podIPs: [{ip: 10.0.0.1}, {ip: 'fd00::1'}]}\n---\nkind: Other\nmetadata: {name: x}\n";
        let mut manifests = Manifests::default();
        manifests.add(pod).unwrap();
        let read = &manifests.pods["shop/web"];
        assert_eq!(read.addresses.both().map(|ip| ip.to_string()), ["10.0.0.1", "fd00::1"]);
        assert_eq!(read.commands, [["app", "x"]]);
        let error = manifests.add(&pod.replace(", {ip: 'fd00::1'}", "")).unwrap_err();
        assert_eq!(format!("{error:#}"), "Pod web: has no IPv6 address");
    }
}
