//! Addresses for Services of type LoadBalancer, from a pool that the machine routes to the nodes; kube-proxy does the
//! rest on every node.

use crate::{Cluster, Kubectl, daemon::Daemon, plan::Plan};
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    ffi::OsString,
    net::{Ipv4Addr, Ipv6Addr},
    process::Stdio,
    thread,
    time::Duration,
};
use weft_tests::binaries;

/// What it is called.
pub(crate) const NAME: &str = "balancer";

/// How many addresses it has of each family.
const POOL: u8 = 250;

pub(crate) fn daemon(plan: &Plan) -> Daemon {
    Cluster::helper(plan, NAME)
}

pub(crate) fn command(plan: &Plan) -> Result<Vec<OsString>> {
    Ok(vec![binaries::find("weft-cluster")?.into(), NAME.into(), "--name".into(), (&plan.name).into()])
}

/// Hands out addresses until the process is ended.
pub fn run(name: &str) -> Result<()> {
    let cluster = Cluster::open(name)?;
    loop {
        // The API server may be away for a while; its list is the truth when it is back.
        if let Err(error) = follow(&cluster.client(), cluster.plan()) {
            eprintln!("{error:#}");
        }
        thread::sleep(Duration::from_secs(1));
    }
}

/// Follows the Services until the watch ends.
fn follow(kubectl: &Kubectl, plan: &Plan) -> Result<()> {
    const WATCH: [&str; 7] =
        ["get", "services", "--all-namespaces", "--watch", "--output-watch-events", "--output", "json"];
    let mut watch = kubectl.command(&WATCH).stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let events = watch.stdout.take().context("kubectl has no output")?;
    let mut pool = Pool::default();
    // Who holds an address already keeps it, whatever comes first in the stream.
    for service in
        kubectl.json(&["get", "services", "--all-namespaces"])?["items"].as_array().into_iter().flatten()
    {
        pool.learn(service);
    }
    for event in serde_json::Deserializer::from_reader(events).into_iter::<Value>() {
        let event = event.context("the watch has ended")?;
        let service = &event["object"];
        if event["type"] == "DELETED" {
            pool.release(service);
        } else if let Some(addresses) = pool.wish(service, plan) {
            let status = json!({"status": {"loadBalancer": {"ingress": addresses
                .iter().map(|address| json!({"ip": address})).collect::<Vec<_>>()}}});
            let meta = &service["metadata"];
            let (namespace, name) = (meta["namespace"].as_str(), meta["name"].as_str());
            let (Some(namespace), Some(name)) = (namespace, name) else { continue };
            let patch = status.to_string();
            let args = ["patch", "service", name, "--namespace", namespace, "--subresource=status"];
            // It may be gone again.
            if let Err(error) = kubectl.run(&[&args[..], &["--type=merge", "--patch", &patch]].concat()) {
                eprintln!("{error:#}");
            }
        }
    }
    watch.kill().ok();
    watch.wait()?;
    Ok(())
}

/// Which Service has which number of the pool.
#[derive(Debug, Default)]
struct Pool {
    held: BTreeMap<u8, String>,
}

impl Pool {
    /// Takes note of an address that a Service has.
    fn learn(&mut self, service: &Value) {
        for ingress in service["status"]["loadBalancer"]["ingress"].as_array().into_iter().flatten() {
            let address = ingress["ip"].as_str().and_then(|text| text.parse::<Ipv4Addr>().ok());
            if let Some([.., number]) = address.map(|address| address.octets()) {
                self.held.insert(number, uid(service));
            }
        }
    }

    fn release(&mut self, service: &Value) {
        let uid = uid(service);
        self.held.retain(|_, holder| *holder != uid);
    }

    /// The addresses that a Service shall have, if it has others: none where it is of another type now, or where
    /// there are none left.
    fn wish(&mut self, service: &Value, plan: &Plan) -> Option<Vec<String>> {
        let has = service["status"]["loadBalancer"]["ingress"].as_array();
        let has: Vec<_> = has.into_iter().flatten().filter_map(|ingress| ingress["ip"].as_str()).collect();
        let spec = &service["spec"];
        if spec["type"] != "LoadBalancer" {
            self.release(service);
            return (!has.is_empty()).then(Vec::new);
        }
        if !spec["loadBalancerClass"].is_null() {
            return None;
        }
        let uid = uid(service);
        let held = self.held.iter().find(|(_, holder)| **holder == uid).map(|(number, _)| *number);
        let number = held.or_else(|| (1..=POOL).find(|number| !self.held.contains_key(number)))?;
        self.held.insert(number, uid);
        let families = spec["ipFamilies"].as_array().into_iter().flatten();
        let addresses: Vec<_> = families.map(|family| address(plan, family == "IPv6", number)).collect();
        (has != addresses).then_some(addresses)
    }
}

fn address(plan: &Plan, v6: bool, number: u8) -> String {
    if v6 {
        Ipv6Addr::new(0xfd57, u16::from(plan.slot), 3, 0, 0, 0, 0, number.into()).to_string()
    } else {
        Ipv4Addr::new(172, 30, plan.slot, number).to_string()
    }
}

fn uid(service: &Value) -> String {
    service["metadata"]["uid"].as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Plan {
        Plan { name: "a".into(), slot: 2, nodes: 1, dual_stack: true, dns: false }
    }

    fn service(uid: &str, kind: &str, has: &[&str]) -> Value {
        let ingress: Vec<_> = has.iter().map(|ip| json!({"ip": ip})).collect();
        json!({
            "metadata": {"uid": uid},
            "spec": {"type": kind, "ipFamilies": ["IPv4", "IPv6"]},
            "status": {"loadBalancer": {"ingress": ingress}},
        })
    }

    #[test]
    fn everybody_has_addresses_of_ones_own_in_the_pool() {
        let mut pool = Pool::default();
        let mut wish = |uid| pool.wish(&service(uid, "LoadBalancer", &[]), &plan()).expect("addresses");
        assert_eq!(wish("one"), ["172.30.2.1", "fd57:2:3::1"]);
        assert_eq!(wish("two"), ["172.30.2.2", "fd57:2:3::2"]);
        assert_eq!(wish("one"), ["172.30.2.1", "fd57:2:3::1"], "asked again");
        assert!(
            plan().load_balancers()[0].starts_with("172.30.2.")
                && plan().load_balancers()[1].starts_with("fd57:2:3::")
        );
    }

    #[test]
    fn what_is_right_is_left_alone() {
        let mut pool = Pool::default();
        let settled = service("one", "LoadBalancer", &["172.30.2.7", "fd57:2:3::7"]);
        pool.learn(&settled);
        assert_eq!(pool.wish(&settled, &plan()), None);
        assert_eq!(pool.wish(&service("two", "ClusterIP", &[]), &plan()), None);
    }

    #[test]
    fn an_address_comes_back_with_its_service() {
        let mut pool = Pool::default();
        pool.wish(&service("one", "LoadBalancer", &[]), &plan());
        assert_eq!(pool.wish(&service("one", "ClusterIP", &["172.30.2.1"]), &plan()), Some(Vec::new()));
        pool.wish(&service("two", "LoadBalancer", &[]), &plan());
        pool.release(&service("two", "LoadBalancer", &[]));
        let next = pool.wish(&service("three", "LoadBalancer", &[]), &plan()).expect("addresses");
        assert_eq!(next[0], "172.30.2.1");
    }
}
