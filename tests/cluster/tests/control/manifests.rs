//! What the scenarios apply.

/// The types of the policies, as far as their schema matters here: Istio's own are stricter.
pub const POLICY_TYPES: &str = "
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: authorizationpolicies.security.istio.io}
spec:
  group: security.istio.io
  names: {kind: AuthorizationPolicy, plural: authorizationpolicies, singular: authorizationpolicy}
  scope: Namespaced
  versions: [&version {name: v1, served: true, storage: true, subresources: {status: {}}, schema: {openAPIV3Schema:
    {type: object, properties: {
      spec: {type: object, x-kubernetes-preserve-unknown-fields: true},
      status: {type: object, x-kubernetes-preserve-unknown-fields: true}}}}}]
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: peerauthentications.security.istio.io}
spec:
  group: security.istio.io
  names: {kind: PeerAuthentication, plural: peerauthentications, singular: peerauthentication}
  scope: Namespaced
  versions: [{name: v1, served: true, storage: true, subresources: {status: {}}, schema: {openAPIV3Schema:
    {type: object, properties: {
      spec: {type: object, x-kubernetes-preserve-unknown-fields: true},
      status: {type: object, x-kubernetes-preserve-unknown-fields: true}}}}}]
";

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
