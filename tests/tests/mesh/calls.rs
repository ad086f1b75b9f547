//! Calls as examples/bookshop/README.md has them.

use anyhow::{Result, ensure};
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
            let unchanged =
                got["peer"] == asked && got["body"]["local"] == asked && got["body"]["peer"] == got["local"];
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
