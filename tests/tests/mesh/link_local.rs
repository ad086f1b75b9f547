//! A neighbour on a pod's own link that calls from its link-local address, the only one it has.

use crate::stage::{DIRECT, SOON, authorize, await_policy};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use weft_tests::{Mesh, Netns, eventually, http, require_kernel};

/// A namespace on the link between the server and its node.
struct Neighbour {
    netns: Netns,
    /// The number of its interface.
    interface: u32,
}

impl Neighbour {
    fn of(mesh: &Mesh, pod: &str) -> Result<Self> {
        let run = mesh.cluster.run.name();
        let netns = Netns::create(&[format!("{run}-neighbour")])?.pop().context("no namespace")?;
        let link = mesh.cluster.pods.keys().position(|key| key == pod).context("no such pod")?;
        let node = &mesh.pod(pod)?.manifest.node;
        mesh.cluster.node(node)?.netns.ip(&[format!(
            "link add link pod{link} name eth0 netns {} type macvlan mode bridge",
            netns.name()
        )])?;
        netns.ip(&["link set eth0 up".into()])?;
        let interface = netns.run(|| Ok(nix::net::if_::if_nametoindex("eth0")?))?;
        Ok(Self { netns, interface })
    }
}

/// The link-local address of a pod's interface.
fn link_local(pod: &Netns) -> Result<Ipv6Addr> {
    pod.run(|| {
        let own = nix::ifaddrs::getifaddrs()?.filter(|found| found.interface_name == "eth0");
        let mut v6 = own.filter_map(|found| Some(found.address?.as_sockaddr_in6()?.ip()));
        v6.find(Ipv6Addr::is_unicast_link_local).context("no link-local address")
    })
}

#[test]
fn a_link_local_client_reaches_the_application_through_the_agent() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let mesh = Mesh::bookshop("link-local")?;
    // A policy that looks at addresses, so that the agent has to judge each client.
    let everywhere = r#"{from: [{source: {ipBlocks: ["0.0.0.0/0", "::/0"]}}]}"#;
    authorize(&mesh, "everywhere", "reviews", "ALLOW", everywhere)?;
    await_policy(&mesh, "everywhere", true)?;
    let neighbour = Neighbour::of(&mesh, DIRECT.to)?;
    let server = mesh.pod(DIRECT.to)?;
    let [_, IpAddr::V6(global)] = server.manifest.addresses.both() else { anyhow::bail!("no IPv6") };
    neighbour.netns.ip(&[format!("route add {global}/128 dev eth0")])?;
    for address in [global, link_local(&server.netns)?] {
        let scope = if address == global { 0 } else { neighbour.interface };
        let to = SocketAddr::V6(SocketAddrV6::new(address, 8080, 0, scope));
        // Its own address has to be found to be nobody else's first.
        let (status, body) = eventually(SOON, || http::get(&neighbour.netns, to, "/"))?;
        let said: Value = serde_json::from_str(&body)?;
        ensure!(status == 200, "{to}: {status} {body}");
        let peer: SocketAddr = said["peer"].as_str().context("no peer")?.parse()?;
        ensure!(peer.ip() == IpAddr::V6(address), "the pod's own address stands in: {said}");
        eventually(SOON, || {
            let flows = mesh.agents["node-b"].list(&["flows", "--to", DIRECT.to])?;
            let seen = flows.iter().any(|flow| {
                let from = flow["connection"]["source"]["address"].as_str().unwrap_or_default();
                from.contains("fe80:") && flow["connection"]["policy"] == "bookshop/everywhere"
            });
            ensure!(seen, "the agent tells of no such client: {flows:?}");
            Ok(())
        })?;
    }
    Ok(())
}
