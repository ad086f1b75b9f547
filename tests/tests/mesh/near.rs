//! A service that prefers what is near keeps to the zone of the node that asks.

use crate::stage::SOON;
use anyhow::{Context, Result, ensure};
use std::{collections::BTreeSet, fs, net::SocketAddr};
use weft_tests::{Mesh, eventually, require_kernel};

/// A service with an endpoint in each of the two zones.
const SHELF: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: shelf, namespace: bookshop}
spec:
  clusterIP: 10.30.0.99
  clusterIPs: [10.30.0.99, "fd30::99"]
  ipFamilies: [IPv4, IPv6]
  trafficDistribution: PreferClose
  ports: [{name: http, port: 80, targetPort: 8080, protocol: TCP}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: shelf, namespace: bookshop, labels: {kubernetes.io/service-name: shelf}}
addressType: IPv4
ports: [{name: http, port: 8080, protocol: TCP}]
endpoints:
  - {addresses: [10.20.1.11], nodeName: node-a, conditions: {ready: true}, targetRef: {kind: Pod, namespace: bookshop, name: catalog}}
  - {addresses: [10.20.2.12], nodeName: node-b, conditions: {ready: true}, targetRef: {kind: Pod, namespace: bookshop, name: reviews}}
"#;
/// Its addresses.
const VIPS: [&str; 2] = ["10.30.0.99:80", "[fd30::99]:80"];
/// Connections, enough that two endpoints are both chosen but for once in a million times.
const CALLS: usize = 20;

/// Who answers a pod's calls.
fn answers(mesh: &Mesh, from: &str) -> Result<BTreeSet<String>> {
    let vips = VIPS.map(|vip| vip.parse::<SocketAddr>());
    let calls = vips.into_iter().cycle().take(CALLS).map(|vip| {
        let got = mesh.get(from, vip?)?;
        Ok(got["body"]["name"].as_str().with_context(|| format!("{from}: {got}"))?.to_owned())
    });
    calls.collect()
}

#[test]
fn calls_stay_in_the_zone_and_follow_the_node_s_labels() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let mesh = Mesh::bookshop("near")?;
    mesh.control.apply("60-shelf.yaml", SHELF)?;
    for (from, near) in [("bookshop/web", "catalog"), ("bookshop/payments", "reviews")] {
        eventually(SOON, || {
            let found = answers(&mesh, from)?;
            ensure!(found == [near.to_owned()].into(), "{from} is answered by {found:?}");
            Ok(())
        })?;
    }
    let nodes = fs::read_to_string(mesh.control.manifests.join("10-nodes.yaml"))?;
    let one_zone = nodes.replace("zone-2", "zone-1");
    ensure!(nodes != one_zone, "the example has changed");
    mesh.control.apply("10-nodes.yaml", &one_zone)?;
    eventually(SOON, || {
        let found = answers(&mesh, "bookshop/web")?;
        ensure!(found == ["catalog".to_owned(), "reviews".to_owned()].into(), "answered by {found:?}");
        Ok(())
    })
}
