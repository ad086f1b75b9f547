//! Calls as examples/bookshop/README.md has them.

use anyhow::{Result, ensure};
use serde_json::Value;
use std::net::SocketAddr;
use weft_tests::{Mesh, require_kernel};

/// Every call of the table, and whether it is answered.
const CALLS: [(&str, &str, bool); 8] = [
    ("bookshop/web", "bookshop/catalog", true),
    ("bookshop/web", "bookshop/reviews", true),
    ("bookshop/web", "bookshop/payments", true),
    ("legacy/desk", "bookshop/reviews", true),
    ("bookshop/catalog", "bookshop/payments", false),
    ("bookshop/reviews", "bookshop/payments", false),
    ("legacy/desk", "bookshop/payments", false),
    ("legacy/desk", "bookshop/catalog", false),
];

/// Whether the server saw the client as it is. A plain caller keeps its address, but not its port: its own connection,
/// which ends at the agent inside the pod, still holds that pair of addresses and ports.
fn same_client(from: &str, got: &Value) -> bool {
    let [seen, own] =
        [&got["body"]["peer"], &got["local"]].map(|address| address.as_str().unwrap_or_default());
    let ip = |address: &str| address.rsplit_once(':').map(|(ip, _)| ip.to_owned());
    seen == own || (from.starts_with("legacy/") && ip(seen) == ip(own))
}

#[test]
fn the_bookshop_lets_through_what_its_readme_says_and_applications_see_no_difference() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let mesh = Mesh::bookshop("calls")?;
    let mut wrong = Vec::new();
    for (from, to, allowed) in CALLS {
        for address in mesh.pod(to)?.manifest.addresses.both() {
            let asked = SocketAddr::new(address, 8080);
            let got = mesh.get(from, asked)?;
            let asked = asked.to_string();
            let unchanged = got["peer"] == asked && got["body"]["local"] == asked && same_client(from, &got);
            if got["ok"] != allowed || (allowed && !unchanged) {
                wrong.push(format!("{from} → {to} ({asked}): {got}"));
            }
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

#[test]
fn services_lead_to_their_pods_in_both_families() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let mesh = Mesh::bookshop("vips")?;
    for (service, name) in [("bookshop/catalog", "catalog"), ("bookshop/reviews", "reviews")] {
        for address in mesh.cluster.manifests.services[service].addresses.both() {
            let asked = SocketAddr::new(address, 80);
            let got = mesh.get("bookshop/web", asked)?;
            assert_eq!(got["body"]["name"], name, "{asked}: {got}");
            assert_eq!(got["peer"], asked.to_string(), "the client's socket shows what it asked for: {got}");
        }
    }
    Ok(())
}
