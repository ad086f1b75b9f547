//! What a cluster is made of, decided before anything is made: names and addresses.
//!
//! Clusters of one machine are told apart by their slot, a small number from which all addresses follow.

use crate::files;
use anyhow::{Context, Result, bail, ensure};
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};
use std::{
    fs::File,
    path::{Path, PathBuf},
};

/// Where the clusters keep small files.
pub const RUN: &str = "/run/weft-clusters";

/// Where they keep large ones.
pub const DATA: &str = "/var/lib/weft-clusters";

/// How many clusters one machine can hold.
const SLOTS: u8 = 16;

/// How many nodes a cluster can have.
const NODES: u8 = 20;

/// A cluster's plan; it stands in the cluster's directory from before the first step until after the last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The cluster's name.
    pub name: String,
    /// Its number on this machine.
    pub slot: u8,
    /// How many nodes it has.
    pub nodes: u8,
    /// Whether pods and Services have IPv6 addresses as well.
    pub dual_stack: bool,
    /// Whether it has a DNS of its own.
    pub dns: bool,
}

impl Plan {
    /// The plan of the cluster called `name`, if there is one.
    pub fn find(name: &str) -> Result<Option<Self>> {
        let path = run_directory(name).join("plan.json");
        if !path.exists() {
            return Ok(None);
        }
        let plan = serde_json::from_str(&files::read(&path)?);
        Ok(Some(
            plan.with_context(|| {
                format!("{}: remove the cluster: cargo xtask cluster down", path.display())
            })?,
        ))
    }

    /// A plan in a slot that is free, written down.
    pub fn reserve(name: &str, nodes: u8, dual_stack: bool, dns: bool) -> Result<Self> {
        check_name(name)?;
        ensure!(nodes <= NODES, "--nodes {nodes}: a cluster has at most {NODES}");
        let _lock = lock("slots")?;
        let mut taken = Vec::new();
        for other in names()? {
            taken.extend(Self::find(&other)?.map(|plan| plan.slot));
        }
        let Some(slot) = (0..SLOTS).find(|slot| !taken.contains(slot)) else {
            bail!("{SLOTS} clusters are on this machine: cargo xtask cluster down --name <one of them>");
        };
        let plan = Self { name: name.to_owned(), slot, nodes, dual_stack, dns };
        files::write(&plan.run_directory().join("plan.json"), serde_json::to_vec_pretty(&plan)?)?;
        Ok(plan)
    }

    /// Small files.
    pub fn run_directory(&self) -> PathBuf {
        run_directory(&self.name)
    }

    /// Large files.
    pub fn data_directory(&self) -> PathBuf {
        Path::new(DATA).join(&self.name)
    }

    /// What its programs print.
    pub fn logs(&self) -> PathBuf {
        self.run_directory().join("logs")
    }

    /// Its cgroup, relative to each hierarchy's root.
    pub fn cgroup(&self) -> String {
        cgroup(&self.name)
    }

    /// The bridge between the nodes.
    pub fn bridge(&self) -> String {
        format!("wk{}", self.slot)
    }

    /// The machine's own address on the bridge, where the API server listens.
    pub fn host(&self) -> Addresses {
        self.addresses("1")
    }

    /// The prefix lengths of the nodes' network.
    pub fn link_prefixes(&self) -> (u8, u8) {
        (24, 64)
    }

    /// What the nodes are, in order.
    pub fn node_plans(&self) -> Vec<NodePlan> {
        (1..=self.nodes).map(|number| self.node(number)).collect()
    }

    fn node(&self, number: u8) -> NodePlan {
        let (slot, name) = (self.slot, format!("node-{number}"));
        NodePlan {
            addresses: self.addresses(&(10 + number).to_string()),
            pods: self
                .both(format!("10.{}.{number}.0/24", 100 + slot), format!("fd57:{slot:x}:1:{number:x}::/64")),
            cgroup: format!("{}/{name}", self.cgroup()),
            netns: format!("{}-{name}", self.cgroup()),
            interface: format!("wk{slot}n{number}"),
            name,
        }
    }

    /// Where all pods' addresses are from.
    pub fn pods(&self) -> Vec<String> {
        self.both(format!("10.{}.0.0/16", 100 + self.slot), format!("fd57:{:x}:1::/48", self.slot))
    }

    /// Where the Services' addresses are from.
    pub fn services(&self) -> Vec<String> {
        self.both(format!("10.{}.0.0/16", 180 + self.slot), format!("fd57:{:x}:2::/112", self.slot))
    }

    /// The Service of the API server, the first of the range.
    pub fn kubernetes_service(&self) -> String {
        format!("10.{}.0.1", 180 + self.slot)
    }

    /// The Service of DNS.
    pub fn dns_service(&self) -> String {
        format!("10.{}.0.10", 180 + self.slot)
    }

    /// Where LoadBalancer Services get their addresses from.
    pub fn load_balancers(&self) -> Vec<String> {
        self.both(format!("172.30.{}.0/24", self.slot), format!("fd57:{:x}:3::/112", self.slot))
    }

    fn addresses(&self, last: &str) -> Addresses {
        let hex: u8 = last.parse().unwrap_or_default();
        let v6 = format!("fd57:{:x}::{hex:x}", self.slot);
        Addresses { v4: format!("172.29.{}.{last}", self.slot), v6: self.dual_stack.then_some(v6) }
    }

    fn both(&self, v4: String, v6: String) -> Vec<String> {
        if self.dual_stack { vec![v4, v6] } else { vec![v4] }
    }
}

/// The addresses of a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// IPv4.
    pub v4: String,
    /// IPv6, in a dual-stack cluster.
    pub v6: Option<String>,
}

impl Addresses {
    /// All of them, IPv4 first.
    pub fn all(&self) -> Vec<String> {
        std::iter::once(self.v4.clone()).chain(self.v6.clone()).collect()
    }
}

/// What a node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodePlan {
    /// Its name in the cluster.
    pub name: String,
    /// Its addresses on the bridge.
    pub addresses: Addresses,
    /// Where its pods' addresses are from.
    pub pods: Vec<String>,
    /// Its cgroup, relative to each hierarchy's root.
    pub cgroup: String,
    /// Its network namespace.
    pub netns: String,
    /// What its link is called on the bridge.
    pub interface: String,
}

/// The cgroup of the cluster called `name`. Not `weft-…`: those belong to runs, which are swept by that prefix.
pub(crate) fn cgroup(name: &str) -> String {
    format!("weftk8s-{name}")
}

/// The directory of the cluster called `name`.
pub(crate) fn run_directory(name: &str) -> PathBuf {
    Path::new(RUN).join(name)
}

/// The clusters of which this machine still has files.
pub fn names() -> Result<Vec<String>> {
    let mut names = files::list(Path::new(RUN))?;
    names.extend(files::list(Path::new(DATA))?);
    names.retain(|name| !name.starts_with('.'));
    names.sort();
    names.dedup();
    Ok(names)
}

/// Held while something is changed that several processes may want to change.
pub(crate) fn lock(what: &str) -> Result<Flock<File>> {
    files::directory(Path::new(RUN))?;
    let path = Path::new(RUN).join(format!(".{what}.lock"));
    let file = File::create(&path).with_context(|| format!("cannot make {}", path.display()))?;
    Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| errno).context("cannot lock")
}

/// A name becomes part of paths and of namespaces' names.
pub(crate) fn check_name(name: &str) -> Result<()> {
    let letters = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    let first = name.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase());
    ensure!(
        letters && first && name.len() <= 32,
        "--name {name:?}: use up to 32 lower-case letters, digits and dashes, a letter first"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(slot: u8) -> Plan {
        Plan { name: "a".into(), slot, nodes: 2, dual_stack: true, dns: true }
    }

    #[test]
    fn slots_share_no_address() {
        let (one, other) = (plan(0), plan(15));
        assert_ne!(one.pods(), other.pods());
        assert_ne!(one.services(), other.services());
        assert_ne!(one.host(), other.host());
        assert_ne!(one.load_balancers(), other.load_balancers());
        assert_ne!(one.node_plans()[1].addresses, one.node_plans()[0].addresses);
    }

    #[test]
    fn an_ipv4_cluster_has_no_other_addresses() {
        let plan = Plan { dual_stack: false, ..plan(1) };
        assert_eq!(plan.pods(), ["10.101.0.0/16"]);
        assert_eq!(plan.host().all(), ["172.29.1.1"]);
        assert_eq!(plan.node_plans()[1].pods, ["10.101.2.0/24"]);
    }

    #[test]
    fn names_that_would_escape_are_refused() {
        for name in ["", "..", "a/b", "-a", "A", "1a", &"a".repeat(33)] {
            assert!(check_name(name).is_err(), "{name:?}");
        }
        assert!(check_name("weft-2").is_ok());
    }

    #[test]
    fn interfaces_fit_the_kernel() {
        let plan = Plan { nodes: 20, ..plan(15) };
        assert!(plan.node_plans().iter().all(|node| node.interface.len() <= 15));
    }
}
