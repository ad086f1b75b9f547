//! Other meshes in the same cluster. A pod that another one carries is left out: in a path with two, each would encrypt and
//! redirect what the other does.

use crate::{
    finding::{Note, Severity},
    selector::Labels,
};
use k8s_openapi::api::core::v1::PodSpec;
use std::collections::BTreeMap;

/// What of another mesh a pod carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Other {
    IstioSidecar,
    IstioAmbient,
    Linkerd,
    Kuma,
    Consul,
}

/// Proxies by the names of their containers, which may be native sidecars.
const PROXIES: [(&str, Other); 4] = [
    ("istio-proxy", Other::IstioSidecar),
    ("linkerd-proxy", Other::Linkerd),
    ("kuma-sidecar", Other::Kuma),
    ("consul-dataplane", Other::Consul),
];
/// Istio's injector leaves this annotation.
const ISTIO_STATUS: &str = "sidecar.istio.io/status";
/// The CNI plugin of Istio's ambient mode leaves this one at pods that it redirects.
const ISTIO_REDIRECTION: &str = "ambient.istio.io/redirection";

impl Other {
    /// What a pod carries.
    pub(crate) fn of(spec: &PodSpec, annotations: Option<&BTreeMap<String, String>>) -> Option<Self> {
        let said = |key: &str| annotations.and_then(|a| a.get(key));
        if said(ISTIO_STATUS).is_some() {
            return Some(Other::IstioSidecar);
        }
        if said(ISTIO_REDIRECTION).is_some_and(|v| v == "enabled") {
            return Some(Other::IstioAmbient);
        }
        let mut containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
        containers.find_map(|c| PROXIES.iter().find(|(name, _)| *name == c.name).map(|(_, other)| *other))
    }

    /// In words, what pods have of it.
    pub(crate) fn what(self) -> &'static str {
        match self {
            Other::IstioSidecar => "carry Istio's sidecar",
            Other::IstioAmbient => "are redirected by Istio's ambient mode",
            Other::Linkerd => "carry Linkerd's proxy",
            Other::Kuma => "carry Kuma's sidecar",
            Other::Consul => "carry Consul's proxy",
        }
    }
}

/// What is said about a namespace of the mesh into whose pods another one puts its proxy, too.
pub(crate) fn injected(labels: &Labels, annotations: Option<&BTreeMap<String, String>>) -> Option<Note> {
    let label = |key: &str| labels.get(key).map(String::as_str);
    let inject = annotations.and_then(|a| a.get("linkerd.io/inject")).map(String::as_str);
    let (field, whose) = match (label("istio-injection"), inject) {
        (Some("enabled"), _) => ("metadata.labels[istio-injection]", "Istio puts its sidecar"),
        (_, Some("enabled" | "ingress")) => {
            ("metadata.annotations[linkerd.io/inject]", "Linkerd puts its proxy")
        }
        // With `disabled`, a revision means nothing to the injector; in ambient mode it means the waypoints'.
        (None, _) if label("istio.io/rev").is_some() && label(crate::mesh::ISTIO_MODE) != Some("ambient") => {
            ("metadata.labels[istio.io/rev]", "Istio puts its sidecar")
        }
        _ => return None,
    };
    Some(Note::new(
        Severity::Warning,
        field,
        format!("{whose} into new pods of the namespace, and those are left out of this mesh"),
        "take this one away and restart the pods, or label the namespace `weft.dev/mesh: disabled`",
    ))
}
