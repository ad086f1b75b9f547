//! Policies that cannot be read: what they are about is closed, and nothing else.

use crate::{
    bad_input::{finds, hears},
    stage::{DIRECT, INTO, SOON, TUNNEL, Way, await_policy, fails_with, well},
};
use anyhow::{Result, ensure};
use std::{fs::File, io::Write};
use weft_tests::{Mesh, eventually, require_kernel};

/// To a neighbour of the pod that is closed.
const BESIDE: Way = Way { path: "tunnel", from: "bookshop/web", to: "bookshop/payments" };

/// Lets web and payments call reviews, and nobody else.
const RULE: &str = "{from: [{source: {principals: [cluster.local/ns/bookshop/sa/web, \
                    cluster.local/ns/bookshop/sa/payments]}}]}";

/// A policy for the reviews, of which `rules` is all that is not given.
fn policy(rules: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
         metadata: {{name: callers, namespace: bookshop}}\n\
         spec:\n  selector: {{matchLabels: {{app: reviews}}}}\n  action: ALLOW\n  rules: {rules}\n"
    )
}

/// Waits until calls on this way go well, or are refused.
fn await_calls(mesh: &Mesh, way: Way, open: bool) -> Result<()> {
    for to in way.targets(mesh, 8080)? {
        eventually(SOON, || {
            let what = format!("{} → {to}", way.from);
            let got = way.call(mesh, &["get", &to.to_string()])?;
            if open { well(&what, &got) } else { fails_with(&what, &got, &["EACCES", "ECONNRESET"]) }
        })?;
    }
    Ok(())
}

#[test]
fn a_policy_that_never_could_be_read_closes_what_it_is_about_until_it_is_mended() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let mut mesh = Mesh::bookshop("closed")?;
    let good = policy(&format!("[{RULE}]"));
    let bad = good.replace("principals", "principal");
    mesh.control.apply("callers.yaml", &bad)?;
    let closed = |mesh: &mut Mesh| -> Result<()> {
        for way in [TUNNEL, DIRECT, INTO] {
            await_calls(mesh, way, false)?;
        }
        await_calls(mesh, BESIDE, true)?;
        let field = "spec.rules[0].from[0].source";
        finds(mesh, ("error", "callers.yaml", "callers", &format!("{field}.principal"), "unknown field"))?;
        let whom = "every connection is refused to the pods with app=reviews of namespace bookshop (bookshop/reviews)";
        finds(mesh, ("error", "callers.yaml", "callers", "", whom))?;
        hears(mesh, "meanwhile")
    };
    closed(&mut mesh)?;
    mesh.control.apply("callers.yaml", &good)?;
    for way in [TUNNEL, DIRECT] {
        await_calls(&mesh, way, true)?;
    }
    await_calls(&mesh, INTO, false)?;
    // The version that could be read holds while another one cannot be, until control forgets it.
    mesh.control.apply("callers.yaml", &bad)?;
    hears(&mesh, "after-good")?;
    await_calls(&mesh, TUNNEL, true)?;
    mesh.control.process().kill()?;
    mesh.control.start_again()?;
    closed(&mut mesh)?;
    mesh.control.delete("callers.yaml")?;
    for way in [TUNNEL, DIRECT, INTO] {
        await_calls(&mesh, way, true)?;
    }
    Ok(())
}

#[test]
fn a_demand_for_mutual_tls_that_never_could_be_read_refuses_plaintext() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let mut mesh = Mesh::bookshop("strikt")?;
    let demand = "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\n\
                  metadata: {name: demand, namespace: bookshop}\n\
                  spec: {selector: {matchLabels: {app: reviews}}, mtls: {mode: STRIKT}}\n";
    mesh.control.apply("demand.yaml", demand)?;
    await_calls(&mesh, INTO, false)?;
    for way in [TUNNEL, DIRECT, BESIDE] {
        await_calls(&mesh, way, true)?;
    }
    let whom = "all plaintext is refused to the pods with app=reviews";
    finds(&mut mesh, ("error", "demand.yaml", "demand", "", whom))?;
    mesh.control.apply("demand.yaml", &demand.replace("STRIKT", "PERMISSIVE"))?;
    await_calls(&mesh, INTO, true)
}

#[test]
fn what_stands_in_a_file_that_is_still_open_is_not_believed() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let mesh = Mesh::bookshop("open-file")?;
    // The first part is sound by itself, and would refuse everybody.
    let (first, rest) = (policy(""), format!("  - {RULE}\n"));
    let mut file = File::create(mesh.control.manifests.join("callers.yaml"))?;
    file.write_all(first.as_bytes())?;
    hears(&mesh, "meanwhile")?;
    for agent in mesh.agents.values() {
        let policies = agent.list(&["policies"])?;
        ensure!(policies.iter().all(|p| p["name"] != "callers"), "half a policy is in force: {policies:?}");
    }
    await_calls(&mesh, INTO, true)?;
    file.write_all(rest.as_bytes())?;
    drop(file);
    await_policy(&mesh, "callers", true)?;
    for way in [TUNNEL, DIRECT] {
        await_calls(&mesh, way, true)?;
    }
    await_calls(&mesh, INTO, false)
}
