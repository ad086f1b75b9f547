//! Capture: applications see the addresses and ports that they would see without a mesh, however they connect.

use crate::stage::{DIRECT, INTO, OUT, TUNNEL, WAYS, Way, fails_with, well};
use anyhow::{Result, ensure};
use serde_json::Value;
use std::net::SocketAddr;
use weft_tests::{Mesh, app, require_kernel};

/// Both sides' idea of both ends agrees, the client's port included.
fn unchanged(what: &str, asked: SocketAddr, got: &Value) -> Result<()> {
    well(what, got)?;
    ensure!(got["peer"] == asked.to_string(), "{what}: the client believes it talks to {}", got["peer"]);
    ensure!(
        got["body"]["local"] == asked.to_string(),
        "{what}: the server believes it is {}",
        got["body"]["local"]
    );
    ensure!(
        got["body"]["peer"] == got["local"],
        "{what}: the server saw {} for {}",
        got["body"]["peer"],
        got["local"]
    );
    Ok(())
}

#[test]
fn an_application_may_choose_its_address_port_device_and_protocol() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let mesh = Mesh::bookshop("sockets")?;
    let _desk = app::serve_http(mesh.pod("legacy/desk")?, 8080)?;
    for way in [TUNNEL, DIRECT, OUT] {
        let own = mesh.pod(way.from)?.manifest.addresses.both();
        for (to, own) in way.targets(&mesh, 8080)?.into_iter().zip(own) {
            let (asked, from) = (to.to_string(), own.to_string());
            for chosen in [
                vec![],
                vec!["--from", &from],
                vec!["--from-port", "40123"],
                vec!["--from", &from, "--from-port", "40124"],
                vec!["--device", "eth0"],
                vec!["--mptcp"],
            ] {
                let what = format!("{} → {asked} {chosen:?}", way.from);
                let got = way.call(&mesh, &[vec!["get", &asked], chosen.clone()].concat())?;
                unchanged(&what, to, &got)?;
                if let Some(at) = chosen.iter().position(|word| *word == "--from-port") {
                    let local = got["local"].as_str().unwrap_or_default();
                    ensure!(local.ends_with(&format!(":{}", chosen[at + 1])), "{what}: bound {local}");
                }
            }
        }
    }
    Ok(())
}

#[test]
fn one_source_port_leads_to_several_destinations() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let mesh = Mesh::bookshop("one-port")?;
    let web = mesh.pod("bookshop/web")?;
    for family in [0, 1] {
        for pod in ["bookshop/reviews", "bookshop/payments", "bookshop/catalog"] {
            let to = SocketAddr::new(mesh.pod(pod)?.manifest.addresses.both()[family], 8080);
            let got = app::run(web, &["get", &to.to_string(), "--from-port", "40200"])?;
            unchanged(pod, to, &got)?;
        }
    }
    Ok(())
}

#[test]
fn no_port_of_a_pod_is_taken() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let mesh = Mesh::bookshop("ports")?;
    let reviews = mesh.pod("bookshop/reviews")?;
    // The ports that Istio's proxy takes from an application.
    const TAKEN: [u16; 3] = [15001, 15006, 15008];
    let servers = TAKEN.map(|port| app::serve_http(reviews, port));
    let _servers = servers.into_iter().collect::<Result<Vec<_>>>()?;
    // In the pod itself all of them answer; 15008 of another pod is where tunnels arrive.
    let own = Way { path: "own", from: "bookshop/reviews", to: "bookshop/reviews" };
    for port in TAKEN {
        for to in own.targets(&mesh, port)? {
            unchanged("own", to, &own.call(&mesh, &["get", &to.to_string()])?)?;
        }
    }
    for port in [15001, 15006] {
        for to in DIRECT.targets(&mesh, port)? {
            unchanged("within the node", to, &DIRECT.call(&mesh, &["get", &to.to_string()])?)?;
        }
    }
    Ok(())
}

#[test]
fn callers_outside_the_mesh_keep_their_addresses() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let mesh = Mesh::bookshop("outside")?;
    for to in INTO.targets(&mesh, 8080)? {
        unchanged("desk → reviews", to, &INTO.call(&mesh, &["get", &to.to_string()])?)?;
    }
    Ok(())
}

#[test]
fn a_closed_port_is_refused_on_a_node_and_a_reset_across() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let mesh = Mesh::bookshop("closed")?;
    for way in WAYS {
        for to in way.targets(&mesh, 9)? {
            let got = way.call(&mesh, &["get", &to.to_string()])?;
            let what = format!("{} → {to}", way.from);
            match way.path {
                "direct" | "pass" | "plain" => fails_with(&what, &got, &["ECONNREFUSED"])?,
                // Captured: the application's connect has succeeded before anybody knows about the port.
                _ => fails_with(&what, &got, &["ECONNRESET"])?,
            }
        }
    }
    Ok(())
}
