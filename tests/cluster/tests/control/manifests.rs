//! What the scenarios apply.

/// The types of the policies, as far as their schema matters here: Istio's own are stricter. They are served, or only known, in
/// these versions; the first one is what is stored.
pub fn policy_types(versions: &[(&str, bool)]) -> String {
    let open = serde_json::json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let schema = serde_json::json!({"openAPIV3Schema": {"type": "object", "properties": {"spec": open, "status": open}}});
    let version = |(at, (name, served)): (usize, &(&str, bool))| serde_json::json!({"name": name, "served": served, "storage": at == 0, "subresources": {"status": {}}, "schema": schema});
    let versions: Vec<_> = versions.iter().enumerate().map(version).collect();
    let items = ["AuthorizationPolicy", "PeerAuthentication"].map(|kind| {
        let singular = kind.to_lowercase();
        let plural = if kind.ends_with('y') { "authorizationpolicies" } else { "peerauthentications" };
        serde_json::json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": format!("{plural}.security.istio.io")},
            "spec": {"group": "security.istio.io", "scope": "Namespaced", "versions": versions,
                "names": {"kind": kind, "plural": plural, "singular": singular}},
        })
    });
    serde_json::json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string()
}

/// A namespace of the mesh with two accounts.
pub const SHOP: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {weft.dev/mesh: enabled}}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: web, namespace: shop}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: db, namespace: shop}
";

/// A policy for the pods of `db`.
pub const POLICY: &str = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: p, namespace: shop}
spec: {selector: {matchLabels: {app: db}}, rules: [{from: [{source: {serviceAccounts: [web]}}]}]}
";

/// A pod that some scheduler placed.
pub fn pod(namespace: &str, name: &str, account: &str, node: &str) -> String {
    format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: {namespace}, labels: {{app: {account}}}}}
spec:
  nodeName: {node}
  serviceAccountName: {account}
  automountServiceAccountToken: false
  tolerations: [{{operator: Exists}}]
  containers: [{{name: a, image: none}}]
"
    )
}
