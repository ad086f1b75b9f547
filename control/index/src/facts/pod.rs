//! Pods.

use super::{Age, Digest, Incarnation, Key};
use crate::{
    finding::{Note, Severity},
    mesh,
    others::Other,
    selector::Labels,
};
use k8s_openapi::{
    api::core::v1::Pod,
    apimachinery::pkg::{apis::meta::v1::ObjectMeta, util::intstr::IntOrString},
};
use std::net::IpAddr;
use weft_model::workload::Kind;

/// What matters of a pod.
#[derive(Clone, Debug)]
pub(crate) struct PodFacts {
    pub key: Key,
    pub age: Age,
    pub labels: Labels,
    /// As its node's cgroups name it; empty where a manifest says none.
    pub uid: String,
    /// Which pod of its name it is.
    pub incarnation: Incarnation,
    pub node: String,
    pub service_account: String,
    /// Empty until the pod has a sandbox.
    pub ips: Vec<IpAddr>,
    pub host_network: bool,
    /// What its own labels say about the mesh.
    pub wish: Option<bool>,
    /// What its own labels say about encryption on the node.
    pub always_encrypt: Option<bool>,
    /// What it carries of another mesh.
    pub other: Option<Other>,
    /// It ran to its end: its address may already be another's.
    pub finished: bool,
    pub ready: bool,
    pub owner: (String, Kind),
    /// Named container ports.
    ports: Vec<(String, u16)>,
}

impl PodFacts {
    pub(crate) fn digest(key: Key, pod: &Pod) -> Digest<Self> {
        let mut notes = Vec::new();
        let labels = super::labels(&pod.metadata);
        let wish = mesh::wish(&labels, &mut notes);
        let always_encrypt = mesh::always_encrypt(&labels, &mut notes);
        let spec = pod.spec.clone().unwrap_or_default();
        let status = pod.status.clone().unwrap_or_default();
        let mut ips = Vec::new();
        let listed = status.pod_ips.unwrap_or_default();
        for (at, ip) in listed.iter().enumerate() {
            ips.extend(super::address(format!("status.podIPs[{at}].ip"), &ip.ip, &mut notes));
        }
        if let (true, Some(ip)) = (listed.is_empty(), &status.pod_ip) {
            ips.extend(super::address("status.podIP", ip, &mut notes));
        }
        let phase = status.phase.as_deref().unwrap_or("Running");
        let finished = matches!(phase, "Succeeded" | "Failed");
        if ips.is_empty() && !super::is_fatal(&notes) && !finished {
            notes.push(Note::new(
                Severity::Info,
                "status.podIPs",
                "the pod has no address yet and is not part of anything",
                "wait for its node, or write `status: {podIPs: [{ip: …}]}` where no Kubernetes fills it in",
            ));
        }
        if super::is_fatal(&notes) {
            return Err(notes);
        }
        let ready = status
            .conditions
            .iter()
            .flatten()
            .find(|c| c.type_ == "Ready")
            // A manifest without conditions stands for a pod that simply runs.
            .is_none_or(|c| c.status == "True");
        let native_sidecars = spec.init_containers.iter().flatten();
        let native_sidecars = native_sidecars.filter(|c| c.restart_policy.as_deref() == Some("Always"));
        let ports = spec
            .containers
            .iter()
            .chain(native_sidecars)
            .flat_map(|c| c.ports.iter().flatten())
            .filter_map(|p| Some((p.name.clone()?, u16::try_from(p.container_port).ok()?)))
            .collect();
        let other = Other::of(&spec, pod.metadata.annotations.as_ref());
        let facts = Self {
            age: (super::created(&pod.metadata), key.clone()),
            owner: owner(&pod.metadata, &key.1, &labels),
            key,
            labels,
            uid: cgroup_uid(&pod.metadata),
            incarnation: super::incarnation(pod.metadata.uid.as_deref()),
            node: spec.node_name.unwrap_or_default(),
            service_account: spec.service_account_name.unwrap_or_else(|| "default".into()),
            ips,
            host_network: spec.host_network.unwrap_or_default(),
            wish,
            always_encrypt,
            other,
            finished,
            // One that terminates is left out by its service's slices, in one step with those that take its place. Left
            // out as soon as it is told to end, it would leave a service of one pod with none until the slice follows.
            ready: ready && phase == "Running",
            ports,
        };
        Ok((facts, notes))
    }

    /// The pod's port that a service's `targetPort` means.
    pub(crate) fn resolve(&self, target: &IntOrString) -> Option<u16> {
        match target {
            IntOrString::Int(port) => u16::try_from(*port).ok(),
            IntOrString::String(name) => self.ports.iter().find(|(n, _)| n == name).map(|(_, p)| *p),
        }
    }
}

/// The uid by which the kubelet names the pod's cgroup. A static pod has no other than a hash of its manifest there, while the
/// object that stands for it in the API has a uid of its own.
fn cgroup_uid(meta: &ObjectMeta) -> String {
    let annotations = meta.annotations.as_ref();
    let of_static = annotations
        .filter(|a| a.contains_key("kubernetes.io/config.mirror"))
        .and_then(|a| a.get("kubernetes.io/config.hash"));
    of_static.or(meta.uid.as_ref()).cloned().unwrap_or_default()
}

/// The controller behind a pod: a ReplicaSet stands for its Deployment, a scheduled Job for its CronJob.
fn owner(meta: &ObjectMeta, pod: &str, labels: &Labels) -> (String, Kind) {
    let controller = meta.owner_references.iter().flatten().find(|o| o.controller == Some(true));
    let Some(owner) = controller else { return (pod.to_owned(), Kind::Pod) };
    match owner.kind.as_str() {
        "ReplicaSet" => {
            let hash = labels.get("pod-template-hash").map(|h| format!("-{h}"));
            let name = hash.and_then(|h| owner.name.strip_suffix(h.as_str()));
            (name.unwrap_or(&owner.name).to_owned(), Kind::Deployment)
        }
        "Job" => match owner.name.rsplit_once('-') {
            // The CronJob controller appends the scheduled minute: eight digits or more.
            Some((name, at)) if at.len() >= 8 && at.bytes().all(|b| b.is_ascii_digit()) => {
                (name.to_owned(), Kind::CronJob)
            }
            _ => (owner.name.clone(), Kind::Job),
        },
        "CronJob" => (owner.name.clone(), Kind::CronJob),
        "Deployment" => (owner.name.clone(), Kind::Deployment),
        // StatefulSets, DaemonSets and the rest have no word of their own on the wire.
        _ => (owner.name.clone(), Kind::Pod),
    }
}
