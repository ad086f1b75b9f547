//! The bridge between the nodes, and the way from the machine to the pods.

use crate::plan::{NodePlan, Plan};
use anyhow::{Result, bail};
use std::{path::Path, process::Command};
use weft_tests::Netns;

/// Makes the bridge where it is not there.
pub(crate) fn bridge(plan: &Plan) -> Result<()> {
    let (bridge, host) = (plan.bridge(), plan.host());
    if exists(&bridge) {
        return Ok(());
    }
    ip(&["link", "add", &bridge, "type", "bridge"])?;
    let (v4, v6) = plan.link_prefixes();
    ip(&["addr", "add", &format!("{}/{v4}", host.v4), "dev", &bridge])?;
    if let Some(address) = &host.v6 {
        ip(&["addr", "add", &format!("{address}/{v6}"), "dev", &bridge, "nodad"])?;
    }
    ip(&["link", "set", &bridge, "up"])
}

/// Routes addresses that any node answers for (those of LoadBalancer Services) to the nodes, from the machine.
pub(crate) fn route_to_all(plan: &Plan) -> Result<()> {
    for range in plan.load_balancers() {
        let mut route = vec!["route".to_owned(), "replace".into(), range.clone()];
        for node in plan.node_plans() {
            let via = node.addresses.v6.filter(|_| range.contains(':')).unwrap_or(node.addresses.v4);
            route.extend(["nexthop".into(), "via".into(), via, "dev".into(), plan.bridge()]);
        }
        ip(&route.iter().map(String::as_str).collect::<Vec<_>>())?;
    }
    Ok(())
}

/// Makes a node's namespace with its link to the bridge, its addresses and its routes, and the machine's routes to its
/// pods.
pub(crate) fn node(plan: &Plan, node: &NodePlan) -> Result<Netns> {
    let netns = match Netns::create(std::slice::from_ref(&node.netns))?.pop() {
        Some(netns) => netns,
        None => bail!("{}: no namespace was made", node.netns),
    };
    netns.run(|| {
        for (key, value) in [
            ("ipv4/ip_forward", "1"),
            ("ipv6/conf/all/forwarding", "1"),
            // Answers to a Service's address leave by another link than they came in by.
            ("ipv4/conf/all/rp_filter", "0"),
            ("ipv4/conf/default/rp_filter", "0"),
        ] {
            let path = Path::new("/proc/sys/net").join(key);
            if path.exists() {
                std::fs::write(&path, value)?;
            }
        }
        Ok(())
    })?;
    let (interface, bridge) = (&node.interface, plan.bridge());
    ip(&["link", "add", interface, "type", "veth", "peer", "name", "eth0", "netns", &node.netns])?;
    ip(&["link", "set", interface, "master", &bridge, "up"])?;
    netns.ip(&inside(plan, node))?;
    for (range, via) in ways(node) {
        ip(&["route", "replace", range, "via", via, "dev", &bridge])?;
    }
    Ok(netns)
}

/// Addresses and routes of the node itself.
fn inside(plan: &Plan, node: &NodePlan) -> Vec<String> {
    let (v4, v6) = plan.link_prefixes();
    let mut commands = vec![format!("addr add {}/{v4} dev eth0", node.addresses.v4)];
    commands
        .extend(node.addresses.v6.iter().map(|address| format!("addr add {address}/{v6} dev eth0 nodad")));
    commands.push("link set eth0 up".into());
    let host = plan.host();
    commands.push(format!("route add default via {}", host.v4));
    commands.extend(host.v6.map(|via| format!("route add default via {via}")));
    for other in plan.node_plans().iter().filter(|other| other.name != node.name) {
        commands.extend(ways(other).map(|(range, via)| format!("route add {range} via {via}")));
    }
    commands
}

/// The ranges of a node's pods, each with the node's address of its family.
fn ways(node: &NodePlan) -> impl Iterator<Item = (&str, &str)> {
    let addresses = std::iter::once(node.addresses.v4.as_str()).chain(node.addresses.v6.as_deref());
    node.pods.iter().map(String::as_str).zip(addresses)
}

/// Removes a node's namespace, and with it its link.
pub(crate) fn remove_namespace(name: &str) -> Result<()> {
    if Path::new("/run/netns").join(name).exists() {
        ip(&["netns", "delete", name])?;
    }
    Ok(())
}

/// Removes a link of this machine, and the routes over it.
pub(crate) fn remove_link(name: &str) -> Result<()> {
    if exists(name) { ip(&["link", "delete", name]) } else { Ok(()) }
}

pub(crate) fn exists(interface: &str) -> bool {
    Path::new("/sys/class/net").join(interface).exists()
}

fn ip(args: &[&str]) -> Result<()> {
    let output = Command::new("ip").args(args).output()?;
    if !output.status.success() {
        bail!("ip {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
