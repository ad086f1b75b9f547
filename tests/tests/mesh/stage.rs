//! What the scenarios have in common: who calls whom, and how policies are written and waited for.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::{net::SocketAddr, time::Duration};
use weft_tests::{Mesh, app, eventually};

/// How long a change may take to be seen everywhere, on a machine that is busy with other scenarios.
pub const SOON: Duration = Duration::from_secs(15);

/// Two pods of the bookshop, the client first, and the path that the mesh takes between them.
#[derive(Clone, Copy, Debug)]
pub struct Way {
    /// What the command line calls it.
    pub path: &'static str,
    /// The client.
    pub from: &'static str,
    /// The server.
    pub to: &'static str,
}

/// Between nodes, both in the mesh.
pub const TUNNEL: Way = Way { path: "tunnel", from: "bookshop/web", to: "bookshop/reviews" };
/// Within a node.
pub const DIRECT: Way = Way { path: "direct", from: "bookshop/payments", to: "bookshop/reviews" };
/// From outside the mesh into it, across nodes.
pub const INTO: Way = Way { path: "plain", from: "legacy/desk", to: "bookshop/reviews" };
/// Out of the mesh, across nodes, which is none of its business.
pub const OUT: Way = Way { path: "pass", from: "bookshop/reviews", to: "legacy/desk" };

/// All of them.
pub const WAYS: [Way; 4] = [TUNNEL, DIRECT, INTO, OUT];

impl Way {
    /// A port of the server, in both families.
    pub fn targets(self, mesh: &Mesh, port: u16) -> Result<[SocketAddr; 2]> {
        let addresses = mesh.pod(self.to)?.manifest.addresses;
        Ok(addresses.both().map(|address| SocketAddr::new(address, port)))
    }

    /// Runs a client in the client's pod.
    pub fn call(self, mesh: &Mesh, args: &[&str]) -> Result<Value> {
        app::run(mesh.pod(self.from)?, args)
    }
}

/// The SPIFFE identity of a bookshop's pod, as the manifests give it.
pub fn spiffe(pod: &str) -> String {
    let name = pod.trim_start_matches("bookshop/");
    format!("spiffe://cluster.local/ns/bookshop/sa/{name}")
}

/// Applies an AuthorizationPolicy of the bookshop for the pods labelled `app`; `rule` is YAML in flow style.
pub fn authorize(mesh: &Mesh, name: &str, app: &str, action: &str, rule: &str) -> Result<()> {
    let text = format!(
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
         metadata: {{name: {name}, namespace: bookshop}}\n\
         spec:\n  selector: {{matchLabels: {{app: {app}}}}}\n  action: {action}\n  rules: [{rule}]\n"
    );
    mesh.control.apply(&format!("{name}.yaml"), &text)
}

/// Waits until every agent holds the policy `bookshop/<name>`, or no longer does.
pub fn await_policy(mesh: &Mesh, name: &str, there: bool) -> Result<()> {
    for (node, agent) in &mesh.agents {
        eventually(SOON, || {
            let policies = agent.list(&["policies"])?;
            let found = policies.iter().any(|p| p["namespace"] == "bookshop" && p["name"] == name);
            ensure!(
                found == there,
                "on {node} the policy {name} {}",
                if there { "is missing" } else { "stays" }
            );
            Ok(())
        })?;
    }
    Ok(())
}

/// The flows from one pod to another that an agent remembers.
pub fn flows(mesh: &Mesh, node: &str, way: Way) -> Result<Vec<Value>> {
    let agent = mesh.agents.get(node).with_context(|| format!("no agent on {node}"))?;
    agent.list(&["flows", "--from", way.from, "--to", way.to])
}

/// Fails unless the client's result says that it went well.
pub fn well(what: &str, result: &Value) -> Result<()> {
    ensure!(result["ok"] == true, "{what}: {result}");
    Ok(())
}

/// Fails unless the client failed, with one of these errors.
pub fn fails_with(what: &str, result: &Value, errors: &[&str]) -> Result<()> {
    let error = result["error"].as_str().unwrap_or_default();
    ensure!(result["ok"] == false && errors.contains(&error), "{what}: {errors:?} expected, got {result}");
    Ok(())
}
