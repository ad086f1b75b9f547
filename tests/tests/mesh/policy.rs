//! Policy: who may call whom, what a refused client sees, and what becomes of live connections when it changes.

use crate::stage::{
    DIRECT, INTO, SOON, TUNNEL, Way, authorize, await_policy, fails_with, flows, spiffe, well,
};
use anyhow::{Context, Result, ensure};
use serde_json::json;
use std::time::Duration;
use weft_tests::{Mesh, app, eventually, require_kernel};

/// What a client sees of a refusal: on a node its connect fails, across nodes it was connected already.
fn refusal(way: Way) -> &'static [&'static str] {
    match way.path {
        "direct" => &["EACCES"],
        _ => &["ECONNRESET"],
    }
}

fn get(mesh: &Mesh, way: Way, port: u16, allowed: bool) -> Result<()> {
    for to in way.targets(mesh, port)? {
        let what = format!("{} → {to}", way.from);
        eventually(SOON, || {
            let got = way.call(mesh, &["get", &to.to_string()])?;
            if allowed { well(&what, &got) } else { fails_with(&what, &got, refusal(way)) }
        })?;
    }
    Ok(())
}

#[test]
fn a_denied_caller_is_refused_and_all_others_are_not() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let mesh = Mesh::bookshop("deny")?;
    let everybody = [TUNNEL, DIRECT, INTO];
    let only = |denied: &[Way]| {
        everybody
            .iter()
            .try_for_each(|way| get(&mesh, *way, 8080, !denied.iter().any(|d| d.from == way.from)))
    };
    only(&[])?;
    authorize(
        &mesh,
        "no",
        "reviews",
        "DENY",
        "{from: [{source: {principals: [cluster.local/ns/bookshop/sa/web]}}]}",
    )?;
    only(&[TUNNEL])?;
    authorize(&mesh, "no", "reviews", "DENY", "{from: [{source: {principals: ['*/sa/payments']}}]}")?;
    only(&[DIRECT])?;
    authorize(&mesh, "no", "reviews", "DENY", "{from: [{source: {notPrincipals: ['*']}}]}")?;
    only(&[INTO])?;
    authorize(&mesh, "no", "reviews", "DENY", "{from: [{source: {namespaces: [bookshop]}}]}")?;
    only(&[TUNNEL, DIRECT])?;
    authorize(
        &mesh,
        "no",
        "reviews",
        "DENY",
        "{from: [{source: {ipBlocks: [10.20.1.0/24, 'fd20:0:0:1::/64']}}]}",
    )?;
    only(&[TUNNEL, INTO])?;
    authorize(&mesh, "no", "reviews", "DENY", "{to: [{operation: {notPorts: ['8080']}}]}")?;
    only(&[])?;
    authorize(&mesh, "no", "reviews", "DENY", "{to: [{operation: {ports: ['8080']}}]}")?;
    only(&[TUNNEL, DIRECT, INTO])?;
    authorize(&mesh, "no", "reviews", "ALLOW", "{from: [{source: {namespaces: [bookshop]}}]}")?;
    only(&[INTO])?;
    mesh.control.delete("no.yaml")?;
    only(&[])
}

#[test]
fn a_refusal_names_its_policy_and_identities() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let mesh = Mesh::bookshop("named")?;
    authorize(&mesh, "nobody", "reviews", "DENY", "{}")?;
    for way in [TUNNEL, DIRECT, INTO] {
        get(&mesh, way, 8080, false)?;
        let told = eventually(SOON, || {
            let all = flows(&mesh, "node-b", way)?;
            let found =
                all.iter().find(|flow| flow["verdict"] == "denied" && flow["event"] == "refused").cloned();
            found.with_context(|| format!("{} → {} is not told: {}", way.from, way.to, json!(all)))
        })?;
        let connection = &told["connection"];
        ensure!(connection["policy"] == "bookshop/nobody", "{told}");
        ensure!(connection["path"] == way.path, "{told}");
        let known = if way.from == INTO.from { String::new() } else { spiffe(way.from) };
        ensure!(connection["source"]["identity"] == known, "{told}");
        ensure!(connection["destination"]["workload"] == "reviews", "{told}");
    }
    Ok(())
}

#[test]
fn a_dry_run_refuses_nobody_and_explain_names_it() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let mesh = Mesh::bookshop("dry-run")?;
    mesh.control.apply(
        "trial.yaml",
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
         metadata: {name: trial, namespace: bookshop, annotations: {istio.io/dry-run: 'true'}}\n\
         spec: {selector: {matchLabels: {app: reviews}}, action: DENY, rules: [{}]}\n",
    )?;
    await_policy(&mesh, "trial", true)?;
    for way in [TUNNEL, DIRECT, INTO] {
        get(&mesh, way, 8080, true)?;
    }
    let to = format!("{}:8080", TUNNEL.to);
    let told = mesh.agents["node-a"].ask(&["explain", "--from", TUNNEL.from, "--to", &to])?;
    ensure!(told["verdict"] == "allowed" && told["dry_run_policy"] == "bookshop/trial", "{told}");
    Ok(())
}

#[test]
fn strict_refuses_who_has_no_identity_and_permissive_does_not() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let mesh = Mesh::bookshop("strict")?;
    let mutual = |mode: &str, more: &str| {
        mesh.control.apply(
            "mutual.yaml",
            &format!(
                "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\n\
                 metadata: {{name: mutual, namespace: bookshop}}\n\
                 spec: {{selector: {{matchLabels: {{app: reviews}}}}, mtls: {{mode: {mode}}}{more}}}\n"
            ),
        )
    };
    let _second = app::serve_http(mesh.pod(INTO.to)?, 8081)?;
    let who_has_one = || [TUNNEL, DIRECT].iter().try_for_each(|way| get(&mesh, *way, 8080, true));
    get(&mesh, INTO, 8080, true)?;
    mutual("STRICT", "")?;
    get(&mesh, INTO, 8080, false)?;
    get(&mesh, INTO, 8081, false)?;
    who_has_one()?;
    mutual("STRICT", ", portLevelMtls: {8081: {mode: PERMISSIVE}}")?;
    get(&mesh, INTO, 8081, true)?;
    get(&mesh, INTO, 8080, false)?;
    mutual("PERMISSIVE", ", portLevelMtls: {8081: {mode: STRICT}}")?;
    get(&mesh, INTO, 8081, false)?;
    get(&mesh, INTO, 8080, true)?;
    mutual("DISABLE", "")?;
    get(&mesh, INTO, 8081, true)?;
    who_has_one()
}

#[test]
fn a_change_cuts_the_live_connections_that_it_forbids_and_no_others() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    const HELD: usize = 10;
    let mesh = Mesh::bookshop("flip")?;
    let _echo = app::serve(mesh.pod("bookshop/reviews")?, "echo", 7000)?;
    let _other = app::serve(mesh.pod("bookshop/reviews")?, "echo", 7001)?;
    let mut clients = Vec::new();
    for way in [TUNNEL, DIRECT, INTO] {
        for port in [7000, 7001] {
            for to in way.targets(&mesh, port)?.map(|to| to.to_string()) {
                let name = format!("hold-{}-{}", way.from, clients.len());
                let count = HELD.to_string();
                let args = ["hold", &to, "--connections", &count, "--seconds", "8", "--every-ms", "100"];
                let mut client = app::start(mesh.pod(way.from)?, &name, &args)?;
                client.wait_for_line(SOON, |line| line.contains("held"))?;
                clients.push((port, format!("{} → {to}", way.from), client));
            }
        }
    }
    authorize(&mesh, "closed", "reviews", "DENY", "{to: [{operation: {ports: ['7000']}}]}")?;
    for (port, what, client) in clients {
        let held = app::result(client, Duration::from_secs(40))?;
        ensure!(held["held"] == HELD, "{what}: {held}");
        match port {
            7000 => ensure!(held["failures"] == json!({ "ECONNRESET": HELD }), "{what}: {held}"),
            _ => well(&what, &held)?,
        }
    }
    for agent in mesh.agents.values() {
        eventually(SOON, || {
            let left = agent.list(&["connections"])?;
            ensure!(left.is_empty(), "still listed: {}", json!(left));
            Ok(())
        })?;
    }
    Ok(())
}
