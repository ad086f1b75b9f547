//! What services promise besides a name: a load balancer's address, a client that stays with its endpoint, and endpoints that
//! are told to end as the last resort.

use crate::stage::{SOON, Way, flows};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::{collections::BTreeSet, net::SocketAddr};
use weft_tests::{Mesh, eventually, require_kernel};

/// A service with an endpoint on each node and two addresses of a load balancer. `@SPEC` and the conditions are filled in.
const SHELF: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: shelf, namespace: bookshop}
spec:
  type: LoadBalancer
  clusterIP: 10.30.0.98
  clusterIPs: [10.30.0.98, "fd30::98"]
  ipFamilies: [IPv4, IPv6]
  externalTrafficPolicy: Local
  @SPEC
  ports: [{name: http, port: 80, targetPort: 8080, protocol: TCP}]
status: {loadBalancer: {ingress: [{ip: 192.0.2.98}, {ip: "2001:db8::98", ipMode: VIP}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: shelf, namespace: bookshop, labels: {kubernetes.io/service-name: shelf}}
addressType: IPv4
ports: [{name: http, port: 8080, protocol: TCP}]
endpoints:
  - {addresses: [10.20.1.11], nodeName: node-a, conditions: {@CATALOG}, targetRef: {kind: Pod, namespace: bookshop, name: catalog}}
  - {addresses: [10.20.2.12], nodeName: node-b, conditions: {@REVIEWS}, targetRef: {kind: Pod, namespace: bookshop, name: reviews}}
"#;
const READY: &str = "ready: true";
const DOWN: &str = "ready: false";
const ENDING: &str = "ready: false, serving: true, terminating: true";

const OWN: [&str; 2] = ["10.30.0.98:80", "[fd30::98]:80"];
const BALANCED: [&str; 2] = ["192.0.2.98:80", "[2001:db8::98]:80"];
/// Connections, enough that two endpoints are both chosen but for once in a million times.
const CALLS: usize = 20;

fn shelf(spec: &str, catalog: &str, reviews: &str) -> String {
    SHELF.replace("@SPEC", spec).replace("@CATALOG", catalog).replace("@REVIEWS", reviews)
}

/// Who answers a pod's calls to these addresses.
fn answers(mesh: &Mesh, from: &str, to: &[&str]) -> Result<BTreeSet<String>> {
    let calls = to.iter().cycle().take(CALLS).map(|to| {
        let got = mesh.get(from, to.parse::<SocketAddr>()?)?;
        Ok(got["body"]["name"].as_str().with_context(|| format!("{from} to {to}: {got}"))?.to_owned())
    });
    calls.collect()
}

fn until(mesh: &Mesh, to: &[&str], expected: &[&str]) -> Result<()> {
    eventually(SOON, || {
        let found = answers(mesh, "bookshop/web", to)?;
        ensure!(found.iter().eq(expected), "answered by {found:?}, not by {expected:?}");
        Ok(())
    })
}

#[test]
fn what_a_service_promises_holds_in_the_mesh() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let mesh = Mesh::bookshop("services")?;
    let apply = |text: String| mesh.control.apply("60-shelf.yaml", &text);
    apply(shelf("", READY, READY))?;
    for to in [OWN, BALANCED] {
        until(&mesh, &to, &["catalog", "reviews"])?;
    }
    // Nobody else answers at the load balancer's address here. Both ways are the mesh's.
    eventually(SOON, || {
        for (to, path) in [("bookshop/reviews", "tunnel"), ("bookshop/catalog", "direct")] {
            let seen = flows(&mesh, "node-a", Way { path, from: "bookshop/web", to })?;
            let is_it = |flow: &&Value| {
                let connection = &flow["connection"];
                connection["path"] == path && connection["service"] == "shelf.bookshop.svc.cluster.local"
            };
            ensure!(seen.iter().filter(is_it).count() > CALLS / 2, "too few on the path {path}: {seen:?}");
        }
        Ok(())
    })?;
    apply(shelf("", DOWN, ENDING))?;
    until(&mesh, &OWN, &["reviews"])?;
    apply(shelf("", ENDING, READY))?;
    until(&mesh, &OWN, &["reviews"])?;
    apply(shelf("", ENDING, DOWN))?;
    until(&mesh, &OWN, &["catalog"])?;
    apply(shelf("sessionAffinity: ClientIP", READY, READY))?;
    eventually(SOON, || {
        let (own, balanced) =
            (answers(&mesh, "bookshop/web", &OWN[..1])?, answers(&mesh, "bookshop/web", &BALANCED[..1])?);
        ensure!(own.len() == 1 && own == balanced, "answered by {own:?} and {balanced:?}");
        Ok(())
    })?;
    apply(shelf("sessionAffinity: ClientIP", DOWN, READY))?;
    until(&mesh, &OWN, &["reviews"])?;
    let itself = answers(&mesh, "bookshop/reviews", &OWN)?;
    ensure!(itself == ["reviews".to_owned()].into(), "the only endpoint is answered by {itself:?}");
    Ok(())
}
