//! The kinds that are read: where the API has them, and what of them is kept.

use super::trim::Keep::{self, All, Fields};
use weft_api::Kind;

/// One kind of the API.
pub(super) trait Shape: Send + Sync + 'static {
    /// Which one.
    const KIND: Kind;
    /// What of an object is kept.
    const KEEP: Keep;
    /// Whether the API is asked for metadata alone.
    const METADATA_ONLY: bool = false;
    /// Which objects are asked for.
    const SELECTED: Option<&'static str> = None;
}

/// Where the API has a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KubeResource {
    /// Its group; empty for the core.
    pub group: &'static str,
    /// Its version.
    pub version: &'static str,
    /// Its name in addresses and roles.
    pub plural: &'static str,
}

/// Where the API has `kind`.
pub const fn resource_of(kind: Kind) -> KubeResource {
    let (group, version, plural) = match kind {
        Kind::Namespace => ("", "v1", "namespaces"),
        Kind::Node => ("", "v1", "nodes"),
        Kind::ServiceAccount => ("", "v1", "serviceaccounts"),
        Kind::Pod => ("", "v1", "pods"),
        Kind::Service => ("", "v1", "services"),
        Kind::EndpointSlice => ("discovery.k8s.io", "v1", "endpointslices"),
        Kind::AuthorizationPolicy => ("security.istio.io", "v1", "authorizationpolicies"),
        Kind::PeerAuthentication => ("security.istio.io", "v1", "peerauthentications"),
    };
    KubeResource { group, version, plural }
}

/// Whether the type of `kind` is one that somebody installs, and may be missing.
pub(super) fn is_custom(kind: Kind) -> bool {
    matches!(kind, Kind::AuthorizationPolicy | Kind::PeerAuthentication)
}

/// Whether the mesh can be told without objects of `kind`: without them nothing is open that they would close, and nothing is
/// missing that nodes may hold already.
pub(super) fn is_dispensable(kind: Kind) -> bool {
    matches!(kind, Kind::Node | Kind::ServiceAccount)
}

/// The annotations that are read.
const ANNOTATIONS: Keep = Fields(&[
    (weft_api::broken::DRY_RUN, All),
    ("sidecar.istio.io/status", All),
    ("ambient.istio.io/redirection", All),
    ("linkerd.io/inject", All),
    // By these the cgroup of a static pod is found.
    ("kubernetes.io/config.mirror", All),
    ("kubernetes.io/config.hash", All),
]);

/// The ports of a container.
const PORTS: Keep = Fields(&[("name", All), ("containerPort", All), ("protocol", All)]);

/// What names an object, and places it in time.
const METADATA: (&str, Keep) = (
    "metadata",
    Fields(&[
        ("name", All),
        ("namespace", All),
        ("uid", All),
        ("resourceVersion", All),
        ("labels", All),
        ("annotations", ANNOTATIONS),
        ("creationTimestamp", All),
        ("deletionTimestamp", All),
        ("ownerReferences", All),
    ]),
);

pub(super) enum Namespaces {}
pub(super) enum Nodes {}
pub(super) enum ServiceAccounts {}
pub(super) enum Pods {}
pub(super) enum Services {}
pub(super) enum EndpointSlices {}
pub(super) enum AuthorizationPolicies {}
pub(super) enum PeerAuthentications {}

impl Shape for Namespaces {
    const KIND: Kind = Kind::Namespace;
    const KEEP: Keep = Fields(&[METADATA]);
    const METADATA_ONLY: bool = true;
}

impl Shape for Nodes {
    const KIND: Kind = Kind::Node;
    const KEEP: Keep = Fields(&[METADATA]);
    const METADATA_ONLY: bool = true;
}

impl Shape for ServiceAccounts {
    const KIND: Kind = Kind::ServiceAccount;
    // That it exists is all that matters of it.
    const KEEP: Keep =
        Fields(&[("metadata", Fields(&[("name", All), ("namespace", All), ("resourceVersion", All)]))]);
    const METADATA_ONLY: bool = true;
}

impl Shape for Pods {
    const KIND: Kind = Kind::Pod;
    const KEEP: Keep = Fields(&[
        METADATA,
        (
            "spec",
            Fields(&[
                ("nodeName", All),
                ("serviceAccountName", All),
                ("hostNetwork", All),
                ("containers", Fields(&[("name", All), ("ports", PORTS)])),
                ("initContainers", Fields(&[("name", All), ("ports", PORTS), ("restartPolicy", All)])),
            ]),
        ),
        (
            "status",
            Fields(&[
                ("phase", All),
                ("podIP", All),
                ("podIPs", All),
                ("conditions", Fields(&[("type", All), ("status", All)])),
            ]),
        ),
    ]);
    // A pod that ran to its end is to the mesh as one that is gone, and the API reports it as gone once it leaves the
    // selection; the pods of finished Jobs, which some clusters keep by the ten thousand, are never sent.
    const SELECTED: Option<&'static str> = Some("status.phase!=Succeeded,status.phase!=Failed");
}

impl Shape for Services {
    const KIND: Kind = Kind::Service;
    const KEEP: Keep = Fields(&[METADATA, ("spec", All), ("status", Fields(&[("loadBalancer", All)]))]);
}

impl Shape for EndpointSlices {
    const KIND: Kind = Kind::EndpointSlice;
    const KEEP: Keep = Fields(&[
        METADATA,
        ("addressType", All),
        (
            "endpoints",
            Fields(&[
                ("addresses", All),
                ("conditions", All),
                ("hints", All),
                ("nodeName", All),
                ("targetRef", Fields(&[("kind", All), ("namespace", All), ("name", All), ("uid", All)])),
                ("zone", All),
            ]),
        ),
        ("ports", All),
    ]);
}

// Of policies nothing is dropped but status and metadata: a field that nobody knows makes a policy unreadable, and must stay.
impl Shape for AuthorizationPolicies {
    const KIND: Kind = Kind::AuthorizationPolicy;
    const KEEP: Keep = Fields(&[METADATA, ("spec", All)]);
}

impl Shape for PeerAuthentications {
    const KIND: Kind = Kind::PeerAuthentication;
    const KEEP: Keep = Fields(&[METADATA, ("spec", All)]);
}
